# fish completion of vllm-guard, written by `make completions`.
#
# It runs no program and opens no file: profiles and runs are the names in their folders.

# Is this the path of a verb?
function __vllm_guard_is_verb
    switch "$argv[1]"
        case ''
        case ' check'
        case ' completion'
        case ' doctor'
        case ' env'
        case ' env activate'
        case ' env audit'
        case ' env clean'
        case ' env deactivate'
        case ' env diff'
        case ' env show'
        case ' explain'
        case ' fix'
        case ' profile'
        case ' profile allow'
        case ' profile check'
        case ' profile deny'
        case ' profile diff'
        case ' profile list'
        case ' profile pin'
        case ' profile show'
        case ' profile verify'
        case ' report'
        case ' run'
        case ' runs'
        case ' runs clean'
        case ' runs list'
        case ' runs show'
        case ' -'
        case '*'
            return 1
    end
end

# Does the flag take a value?
function __vllm_guard_takes_value
    switch "$argv[1]"
        case ' -p'
        case ' --profile'
        case ' -e'
        case ' --env'
        case ' --unset'
        case ' --keep'
        case ' --preflight'
        case ' --ignore'
        case ' --trust'
        case ' --main-guard'
        case ' --deadline'
        case ' --stall'
        case ' --stall-after'
        case ' --python'
        case ' --json'
        case ' --on-ready'
        case ' check --format'
        case ' doctor --only'
        case ' doctor --skip'
        case ' doctor --ignore'
        case ' doctor -p'
        case ' doctor --profile'
        case ' doctor -e'
        case ' doctor --env'
        case ' doctor --unset'
        case ' doctor --trust'
        case ' doctor --python'
        case ' doctor --format'
        case ' env activate -e'
        case ' env activate --env'
        case ' env activate --unset'
        case ' env activate --trust'
        case ' env activate --python'
        case ' env activate --shell'
        case ' env audit --pid'
        case ' env audit --file'
        case ' env audit --python'
        case ' env clean --shell'
        case ' env deactivate --shell'
        case ' env diff -p'
        case ' env diff --profile'
        case ' env diff -e'
        case ' env diff --env'
        case ' env diff --unset'
        case ' env diff --trust'
        case ' env diff --python'
        case ' env diff --shell'
        case ' profile check --python'
        case ' profile pin --in'
        case ' profile pin --vllm'
        case ' profile pin --python'
        case ' profile verify --python'
        case ' profile verify --format'
        case ' report -f'
        case ' report --format'
        case ' report -o'
        case ' report --output'
        case ' run -p'
        case ' run --profile'
        case ' run -e'
        case ' run --env'
        case ' run --unset'
        case ' run --keep'
        case ' run --preflight'
        case ' run --ignore'
        case ' run --trust'
        case ' run --main-guard'
        case ' run --deadline'
        case ' run --stall'
        case ' run --stall-after'
        case ' run --python'
        case ' run --json'
        case ' run --on-ready'
        case ' - -p'
        case ' - --profile'
        case ' - -e'
        case ' - --env'
        case ' - --unset'
        case ' - --keep'
        case ' - --preflight'
        case ' - --ignore'
        case ' - --trust'
        case ' - --main-guard'
        case ' - --deadline'
        case ' - --stall'
        case ' - --stall-after'
        case ' - --python'
        case ' - --json'
        case ' - --on-ready'
        case '*'
            return 1
    end
end

# Is what follows the verb (` --`: or these two dashes) a command?
function __vllm_guard_takes_command
    switch "$argv[1]$argv[2]"
        case '--'
        case ' doctor'
        case ' doctor--'
        case ' env audit'
        case ' env audit--'
        case ' env diff'
        case ' env diff--'
        case ' run'
        case ' run--'
        case ' ---'
        case '*'
            return 1
    end
end

# The words of a kind that are always there.
function __vllm_guard_named
    switch $argv[1]
        case profile
            string split ' ' -- \
                'clean debug dummy-weights eager nccl network p2p-off single-process stats trace vllm-sampling'
        case finding
            string split ' ' -- \
                'active-in-shell allocator-conflict api-key-on-command-line c-compiler cache-clock cgroup-memory' \
            'cgroup-pids cold-compile collective-gpus collective-meet collective-others collective-reach' \
            'collective-settings collective-slurm collective-versions collective-world command-not-executable' \
            'command-not-found command-shell config-file containment cuda-before-fork dead-run debug-left-on' \
            'disk-space engine-option-added engine-option-default engine-option-kept engine-option-type' \
            'engine-option-unknown engine-options-apart engine-options-not-applied flag-file flag-unknown' \
            'flag-value flags generation-config glibc gloo-interface gpu-architecture gpu-compute-mode gpu-count' \
            'gpu-ecc gpu-memory gpu-mig gpu-order gpu-p2p gpu-p2p-cache gpu-slowed gpu-unknown gpu-xid gpus' \
            'host-ip host-memory host-not-here host-oom-kill hub-answers hub-gated hub-model hub-revision' \
            'hub-token inside-run interpreter-unusable jit-tools kv-cache-dtype left-behind loopback' \
            'main-guard-marker main-guard-missing main-guard-not-applied main-guard-not-needed master-address' \
            'master-port memlock model-blocks model-cached model-chat-template model-complete model-config' \
            'model-dtype model-experts model-filesystem model-heads model-intermediate model-length model-memory' \
            'model-not-cached model-path model-quantization model-read-rate model-supported model-tokenizer' \
            'model-unfinished nccl-interface network-picks nodes nofile notebook notebook-functions p2p-half-off' \
            'package-mismatch packages pin-drift pin-guard-older pin-invalid pin-missing pin-outdated' \
            'pin-unknown-key pin-unlocked port-busy port-free port-invalid port-privileged port-shared' \
            'port-unknown probe-unknown profile-invalid profile-valid profile-version prompts-in-log proxy-local' \
            'ptrace-scope ptxas python-headers ray-not-copied ray-own rdma repository-defaults repository-ignore' \
            'script-missing script-unreadable server-ended service-link shared-memory shell-active shm-missing' \
            'shm-size shm-stale socket-ifname stall subcommand-unknown torch-build torch-import variable-changed' \
            'variable-deprecated variable-inert variable-kept variable-name variable-overridden variable-removed' \
            'variable-required variable-unknown variable-value visible-devices vllm-address vllm-found' \
            'vllm-metadata vllm-not-found vllm-port vllm-shadowed'
        case check
            string split ' ' -- \
                'api-key collective compile config-file dead-runs disk environment flag-files flag-value flags' \
            'generation-config gpu-health gpu-links gpu-memory gpus host-memory inspect limits load model' \
            'model-complete model-dtype model-hub model-memory model-quantization model-shape model-split' \
            'model-storage model-supported network network-picks no-python packages platform port profile-keys' \
            'rendezvous script shared-memory subcommand toolchain torch torch-build vllm-install'
        case log
            string split ' ' -- \
                'active-in-shell address-in-use address-not-local allocator-conflict allreduce-peer-access' \
            'api-key-on-command-line architecture-dropped architecture-not-inspected architecture-null' \
            'architecture-plugin architecture-unsupported argument-json-refused argument-not-a-choice' \
            'argument-not-json argument-refused argument-without-value arguments-missing arguments-unrecognised' \
            'attention-backend-invalid attention-backend-none batched-tokens-below-length' \
            'batched-tokens-below-seqs bfloat16-unsupported bind-permission block-size-unsupported' \
            'breakpoint-in-worker broadcast-wait buffers-modified c-compiler c-compiler-missing c-headers-missing' \
            'cache-clock cache-permission capture-disabled capture-invalidated capture-not-permitted' \
            'capture-out-of-memory certificate-missing cgroup-memory cgroup-pids chat-template-broken' \
            'chat-template-file chat-template-missing chat-template-refuses chat-template-slow child-died' \
            'cold-compile collective-gpus collective-meet collective-others collective-reach collective-settings' \
            'collective-slurm collective-versions collective-world command-not-executable command-not-found' \
            'command-shell compile-backend-failed compile-cache-broken compile-not-serializable' \
            'compiler-command-failed config-file config-file-refused config-missing config-not-json' \
            'configuration-key-unknown configuration-refused configuration-type connector-expandable-segments' \
            'container-cli-failed containment context-parallel-heads cpu-kv-cache-too-large cpu-memory-taken' \
            'crash-segfault crashed-last-line cublas-no-memory cuda-802 cuda-803 cuda-804 cuda-before-fork' \
            'cuda-device-count cuda-headers-missing cuda-home-colon cuda-home-unset cuda-in-forked-process' \
            'cuda-library-missing cuda-out-of-memory cudagraph-mode-unsupported cudagraph-sizes-contradict' \
            'custom-allreduce-off custom-op-missing cxx-compiler-missing dead-run debug-left-on device-assert' \
            'device-list-short device-not-inferred disk-read-error disk-space disk-too-small docker-no-gpu-driver' \
            'download-broken dp-config-differs dp-coordinator dp-handshake dp-headless driver-insufficient' \
            'driver-too-old dtype-unknown dynamo-constraint dynamo-runtime-error dynamo-unsupported' \
            'engine-core-died engine-core-failed engine-core-traceback engine-dead engine-option-added' \
            'engine-option-default engine-option-kept engine-option-type engine-option-unknown' \
            'engine-options-apart engine-options-not-applied engine-process-failed engine-ready-timeout' \
            'engine-start-local engine-start-pending engine-stopped-with-server entrypoint-missing' \
            'entrypoint-not-executable exec-format executor-unsupported external-launcher-gloo' \
            'feature-unsupported few-open-files file-not-on-hub flag-file flag-unknown flag-value flags' \
            'flash-attention-gpu flashinfer-architecture flashinfer-build-failed flashinfer-workspace' \
            'float16-unsupported fp8-block-shape fp8-triton-ampere frontend-failed gated-model generation-config' \
            'glibc glibc-too-old gloo-interface gloo-interface-missing gloo-loopback gloo-mesh gloo-no-device' \
            'gpu-architecture gpu-architecture-missing gpu-architecture-warning gpu-busy gpu-compute-mode' \
            'gpu-count gpu-ecc gpu-ecc-error gpu-memory gpu-memory-external-weights gpu-memory-taken gpu-mig' \
            'gpu-order gpu-out-of-memory gpu-p2p gpu-p2p-cache gpu-slowed gpu-unknown gpu-xid gpu-xid-follows' \
            'gpu-xid-gsp gpu-xid-line gpu-xid-lost gpu-xid-memory gpu-xid-nvlink gpu-xid-program gpu-xid-remapped' \
            'gpus graph-replay-error gunicorn-worker-timeout headless-contradiction heads-not-divisible' \
            'heap-corrupted hf-transfer-failed hf-transfer-missing host-ip host-ip-ignored host-ip-unknown' \
            'host-memory host-not-here host-oom-kill host-out-of-memory hub-answers hub-certificate hub-gated' \
            'hub-model hub-name-resolution hub-rate-limit hub-retry hub-revision hub-token hub-unreachable' \
            'illegal-memory-access inductor-error inside-run interpreter-unusable invalid-device-ordinal' \
            'invalid-http-request jit-out-of-memory jit-tools kernel-assertion keyboard-interrupt killed' \
            'killed-by-sigabrt killed-by-sigill killed-by-sigsegv killed-last-line killed-line' \
            'kv-allocation-out-of-memory kv-cache-auto-fit kv-cache-dtype kv-cache-none kv-cache-too-small' \
            'kv-cache-too-small-v0 kv-heads-not-divisible launch-failure layer-size-not-divisible' \
            'leaked-shared-memory left-behind libcuda-not-found libcuda-not-linked libstdcxx-too-old' \
            'linear-kernel-none load-out-of-memory log-level logging-config loopback lora-empty lora-model' \
            'lora-modules lora-not-enabled lora-not-found lora-rank lora-weight main-guard-marker' \
            'main-guard-missing main-guard-not-applied main-guard-not-needed mamba-cache-too-small marlin-shape' \
            'master-address master-port max-model-len-too-long memlock memory-profiling-disturbed' \
            'metadata-missing method-failed-on-worker misaligned-address mm-item-too-large mm-limit' \
            'mm-local-files mm-media-path mm-placeholders mm-processor mmap-failed model-blocks model-cached' \
            'model-chat-template model-complete model-config model-dtype model-experts model-filesystem' \
            'model-heads model-intermediate model-is-a-file model-length model-memory model-name model-not-cached' \
            'model-not-given model-not-on-hub model-packages-missing model-path model-path-missing' \
            'model-quantization model-read-rate model-runner-unsupported model-supported model-tokenizer' \
            'model-type-missing model-type-unknown model-unfinished modelscope-missing nan-logits nanobind-leak' \
            'nccl-connect nccl-cuda-error nccl-duplicate-gpu nccl-ib-completion nccl-interface nccl-invalid-usage' \
            'nccl-library nccl-memlock nccl-no-interface nccl-peer-access nccl-setting nccl-shm-full' \
            'nccl-shm-not-shared nccl-system-error nccl-timeout nccl-versions-differ network-picks ninja-missing' \
            'no-driver no-gpu no-loopback no-space nodes nofile notebook notebook-functions numactl-missing' \
            'nvcc-architecture nvcc-gcc-too-new nvcc-missing nvml-mismatch nvml-unknown' \
            'object-storage-load-format offline-not-cached oom-killer output-handler-failed p2p-half-off' \
            'p2p-test-failed package-mismatch packages parser-tokenizer peer-gone pickle-refused' \
            'piecewise-graphs-unavailable pin-drift pin-guard-older pin-invalid pin-missing pin-outdated' \
            'pin-unknown-key pin-unlocked pipeline-unsupported platform-plugins platform-unspecified' \
            'pod-crash-loop pod-evicted pod-image-pull pod-no-gpu pod-oom-killed pooler-out-of-memory port-busy' \
            'port-free port-invalid port-out-of-range port-privileged port-shared port-unknown probe-unknown' \
            'process-group-not-destroyed process-limit processor-not-loaded profile-invalid profile-out-of-memory' \
            'profile-valid profile-version prompt-too-long prompts-in-log proxy-local ptrace-scope ptx-toolchain' \
            'ptxas ptxas-architecture ptxas-failed python-headers python-headers-missing quantization-capability' \
            'quantization-config-missing quantization-contradicts-model quantization-dtype quantization-platform' \
            'quantization-scheme-capability quantization-unknown quantized-shape ray-actor-died ray-missing' \
            'ray-no-cluster ray-no-gpu-here ray-no-placement ray-not-copied ray-object-store-full' \
            'ray-out-of-memory ray-own ray-placement-waits ray-same-address ray-versions-differ raylet-died rdma' \
            'read-only-disk reasoning-parser-unknown rendezvous-incomplete rendezvous-port-busy' \
            'rendezvous-timeout repository-defaults repository-disabled repository-ignore revision-unknown' \
            'rpc-timeout runner-unsupported rust-frontend-missing safetensors-cut-off safetensors-not-one' \
            'sampler-out-of-memory script-missing script-unreadable server-ended service-link' \
            'serving-out-of-memory shard-missing sharded-state-missing shared-memory shell-aborted shell-active' \
            'shell-illegal-instruction shm-bus-error shm-bus-error-reported shm-full shm-missing shm-read-only' \
            'shm-size shm-stale shm-too-small size-not-divisible sleep-mode-unsupported slurm-node-failure' \
            'slurm-out-of-memory slurm-preempted slurm-time-limit socket-ifname spawn-forced' \
            'speculative-tokens-missing speculative-tokens-too-many stale-file-handle stall' \
            'stopped-while-starting subcommand-unknown swap-space-too-large systemd-dumped systemd-killed' \
            'systemd-oom systemd-start-limit systemd-timeout token-invalid tokenizer-class-unknown' \
            'tokenizer-library-missing tokenizer-not-json tokenizer-not-loaded too-many-open-files' \
            'tool-choice-flags tool-parser-not-given tool-parser-unknown torch-build torch-import' \
            'torch-not-installed torch-shm torch-without-cuda torchrun-child-failed torchvision-mismatch' \
            'transformers-incompatible triton-mismatch triton-out-of-resource trust-remote-code undefined-symbol' \
            'unguarded-script variable-changed variable-choice variable-deprecated variable-inert variable-kept' \
            'variable-name variable-not-a-number variable-not-known variable-overridden variable-refused' \
            'variable-removed variable-required variable-unknown variable-value visible-devices' \
            'visible-devices-contradict vllm-address vllm-c-missing vllm-c-not-imported vllm-command-not-found' \
            'vllm-found vllm-metadata vllm-module-missing vllm-not-found vllm-not-installed vllm-port' \
            'vllm-port-uri vllm-port-value vllm-shadowed wake-up-out-of-memory weight-key weight-name' \
            'weight-shape weights-missing weights-not-initialized worker-died worker-error-relayed' \
            'worker-init-failed worker-process-died worker-stopped-cleanly worker-traceback world-too-large' \
            'xet-failed'
    end
end

complete -c vllm-guard -f
complete -c vllm-guard -n "__vllm_guard_at ''" -a check -d 'Say which scripts start processes when they are imported, and so need a main guard.'
complete -c vllm-guard -n "__vllm_guard_at ''" -a completion -d 'Print the completion script for a shell.'
complete -c vllm-guard -n "__vllm_guard_at ''" -a doctor -d 'Check what COMMAND needs (without one: what any vLLM here needs); it is not started.'
complete -c vllm-guard -n "__vllm_guard_at ''" -a env -d 'What of the environment matters to vLLM or is left over; profiles for a whole shell.'
complete -c vllm-guard -n "__vllm_guard_at ''" -a explain -d 'Say why it failed, by a log of any vLLM (default: that of the last run); or what an ID means.'
complete -c vllm-guard -n "__vllm_guard_at ''" -a fix -d 'Write the main guard into scripts that start processes without one.'
complete -c vllm-guard -n "__vllm_guard_at ''" -a profile -d 'List, show and check profiles; allow and deny those of a repository; pin them there.'
complete -c vllm-guard -n "__vllm_guard_at ''" -a report -d 'Report a run (default: the newest): what failed and why, timeline, environment, log; secrets masked.'
complete -c vllm-guard -n "__vllm_guard_at ''" -a run -d 'Launch COMMAND under profiles, and end as it ends.'
complete -c vllm-guard -n "__vllm_guard_at ''" -a runs -d 'List and show the records of runs, and remove what killed ones left.'
complete -c vllm-guard -n "__vllm_guard_at ''" -s p -l profile -x -a '(__vllm_guard_profiles)' -d 'Use this profile (a name, or a file); repeatable, later wins.'
complete -c vllm-guard -n "__vllm_guard_at ''" -s e -l env -x -a '(set -nx)' -d 'Set this variable for the run.'
complete -c vllm-guard -n "__vllm_guard_at ''" -l unset -x -a '(set -nx)' -d 'Unset this variable for the run.'
complete -c vllm-guard -n "__vllm_guard_at ''" -l keep -x -a '(set -nx)' -d 'No profile may touch this variable.'
complete -c vllm-guard -n "__vllm_guard_at ''" -l preflight -x -a 'off quick full' -d 'Which checks run first.'
complete -c vllm-guard -n "__vllm_guard_at ''" -l ignore -x -a '(__vllm_guard_named finding)' -d 'A failing finding with this id becomes a warning.'
complete -c vllm-guard -n "__vllm_guard_at ''" -l trust -x -d 'A repository\'s profile with this digest may be used (for CI).'
complete -c vllm-guard -n "__vllm_guard_at ''" -l main-guard -x -a 'auto definitions cutoff off' -d 'What child processes of an unguarded script run of it.'
complete -c vllm-guard -n "__vllm_guard_at ''" -l exec -d 'Check, then replace this process: no supervision.'
complete -c vllm-guard -n "__vllm_guard_at ''" -l no-watch -d 'The command inherits stdout and stderr untouched.'
complete -c vllm-guard -n "__vllm_guard_at ''" -l allow-daemon -d 'What outlives the command may live on.'
complete -c vllm-guard -n "__vllm_guard_at ''" -l deadline -x -d 'End the run after this time; exit 124.'
complete -c vllm-guard -n "__vllm_guard_at ''" -l stall -x -a 'report kill off' -d 'What to do when a vLLM that starts moves no more.'
complete -c vllm-guard -n "__vllm_guard_at ''" -l stall-after -x -d 'That is: no sign of life so long.'
complete -c vllm-guard -n "__vllm_guard_at ''" -l python -r -F -d 'The interpreter that the command will use.'
complete -c vllm-guard -n "__vllm_guard_at ''" -l json -r -F -d 'Write the record of the run to this file.'
complete -c vllm-guard -n "__vllm_guard_at ''" -l on-ready -x -d 'Run this shell command once vLLM is ready.'
complete -c vllm-guard -n "__vllm_guard_at ''" -l progress -d 'Phases of the start; on a terminal a live line as well.'
complete -c vllm-guard -n "__vllm_guard_at ''" -l quiet-child -d 'What the command writes goes to the record only.'
complete -c vllm-guard -n "__vllm_guard_at ''" -s n -l dry-run -d 'Print the plan and the exact command; start nothing.'
complete -c vllm-guard -n "__vllm_guard_at ''" -s q -l quiet -d 'Only warnings and failures.'
complete -c vllm-guard -n "__vllm_guard_at ''" -s v -l verbose -d 'More: every finding, with reasons and links.'
complete -c vllm-guard -n "__vllm_guard_at ''" -s h -l help -d 'Show this message and exit.'
complete -c vllm-guard -n "__vllm_guard_at ''" -l version -d 'Show the version and exit.'
complete -c vllm-guard -n "__vllm_guard_at ' check'" -l format -x -a 'text json github sarif' -d 'How to print it.'
complete -c vllm-guard -n "__vllm_guard_at ' check'" -l explain -d 'Also each top-level line: whether child processes run it, and why.'
complete -c vllm-guard -n "__vllm_guard_at ' check'" -l strict -d 'Warnings count as failures.'
complete -c vllm-guard -n "__vllm_guard_at ' check'" -s h -l help -d 'Show this message and exit.'
complete -c vllm-guard -n "__vllm_guard_at ' check'" -F
complete -c vllm-guard -n "__vllm_guard_at ' completion'" -s h -l help -d 'Show this message and exit.'
complete -c vllm-guard -n "__vllm_guard_at ' completion'" -a 'bash zsh fish powershell'
complete -c vllm-guard -n "__vllm_guard_at ' doctor'" -l full -d 'Also the full checks: minutes, in the target\'s Python.'
complete -c vllm-guard -n "__vllm_guard_at ' doctor'" -l only -x -a '(__vllm_guard_named check)' -d 'Only this check (of any tier).'
complete -c vllm-guard -n "__vllm_guard_at ' doctor'" -l skip -x -a '(__vllm_guard_named check)' -d 'Not this check.'
complete -c vllm-guard -n "__vllm_guard_at ' doctor'" -l ignore -x -a '(__vllm_guard_named finding)' -d 'A failing finding becomes a warning.'
complete -c vllm-guard -n "__vllm_guard_at ' doctor'" -l list -d 'List the checks; check nothing.'
complete -c vllm-guard -n "__vllm_guard_at ' doctor'" -s p -l profile -x -a '(__vllm_guard_profiles)' -d 'As under it.'
complete -c vllm-guard -n "__vllm_guard_at ' doctor'" -s e -l env -x -a '(set -nx)' -d 'As with this variable.'
complete -c vllm-guard -n "__vllm_guard_at ' doctor'" -l unset -x -a '(set -nx)' -d 'As without this variable.'
complete -c vllm-guard -n "__vllm_guard_at ' doctor'" -l trust -x -d 'As for `run`.'
complete -c vllm-guard -n "__vllm_guard_at ' doctor'" -l python -r -F -d 'The interpreter whose vLLM is meant.'
complete -c vllm-guard -n "__vllm_guard_at ' doctor'" -l strict -d 'Warnings count as failures.'
complete -c vllm-guard -n "__vllm_guard_at ' doctor'" -s v -l verbose -d 'Every finding, and how long each check took.'
complete -c vllm-guard -n "__vllm_guard_at ' doctor'" -l json -d 'One JSON document on stdout.'
complete -c vllm-guard -n "__vllm_guard_at ' doctor'" -l format -x -a 'text json nagios github junit' -d 'For programs.'
complete -c vllm-guard -n "__vllm_guard_at ' doctor'" -s h -l help -d 'Show this message and exit.'
complete -c vllm-guard -n "__vllm_guard_at ' doctor'" -a '(__vllm_guard_command)'
complete -c vllm-guard -n "__vllm_guard_at ' env'" -a activate -d 'Print code that sets profiles in the shell that calls: eval "$(vllm-guard env activate debug)".'
complete -c vllm-guard -n "__vllm_guard_at ' env'" -a audit -d 'Say what debugging left behind in the environment, what it costs and where it came from.'
complete -c vllm-guard -n "__vllm_guard_at ' env'" -a clean -d 'Print code that unsets what debugging left behind in the shell that calls.'
complete -c vllm-guard -n "__vllm_guard_at ' env'" -a deactivate -d 'Print code that undoes the last `env activate` of the shell that calls.'
complete -c vllm-guard -n "__vllm_guard_at ' env'" -a diff -d 'Show what profiles would change for COMMAND (default: `vllm serve`); nothing is started.'
complete -c vllm-guard -n "__vllm_guard_at ' env'" -a show -d 'Show the variables of vLLM\'s stack that are set here, secrets masked.'
complete -c vllm-guard -n "__vllm_guard_at ' env'" -s h -l help -d 'Show this message and exit.'
complete -c vllm-guard -n "__vllm_guard_at ' env activate'" -s e -l env -x -a '(set -nx)' -d 'As for `run`.'
complete -c vllm-guard -n "__vllm_guard_at ' env activate'" -l unset -x -a '(set -nx)' -d 'As for `run`.'
complete -c vllm-guard -n "__vllm_guard_at ' env activate'" -l trust -x -d 'As for `run`.'
complete -c vllm-guard -n "__vllm_guard_at ' env activate'" -l python -r -F -d 'The interpreter whose vLLM is meant.'
complete -c vllm-guard -n "__vllm_guard_at ' env activate'" -l shell -x -a 'bash zsh sh fish powershell' -d 'Whose code is printed (default: that of the shell that calls).'
complete -c vllm-guard -n "__vllm_guard_at ' env activate'" -s h -l help -d 'Show this message and exit.'
complete -c vllm-guard -n "__vllm_guard_at ' env activate'" -a '(__vllm_guard_profiles)'
complete -c vllm-guard -n "__vllm_guard_at ' env audit'" -l pid -x -d 'That process and all below it, not this environment.'
complete -c vllm-guard -n "__vllm_guard_at ' env audit'" -l file -r -F -d 'What this file sets: .env, Dockerfile, Compose or Kubernetes manifest, Slurm or shell script.'
complete -c vllm-guard -n "__vllm_guard_at ' env audit'" -l python -r -F -d 'The interpreter whose vLLM is meant.'
complete -c vllm-guard -n "__vllm_guard_at ' env audit'" -l strict -d 'Warnings count as failures.'
complete -c vllm-guard -n "__vllm_guard_at ' env audit'" -l json -d 'One JSON document on stdout.'
complete -c vllm-guard -n "__vllm_guard_at ' env audit'" -s h -l help -d 'Show this message and exit.'
complete -c vllm-guard -n "__vllm_guard_at ' env audit'" -a '(__vllm_guard_command)'
complete -c vllm-guard -n "__vllm_guard_at ' env clean'" -l shell -x -a 'bash zsh sh fish powershell' -d 'Whose code is printed (default: that of the shell that calls).'
complete -c vllm-guard -n "__vllm_guard_at ' env clean'" -s h -l help -d 'Show this message and exit.'
complete -c vllm-guard -n "__vllm_guard_at ' env deactivate'" -l shell -x -a 'bash zsh sh fish powershell' -d 'Whose code is printed (default: that of the shell that calls).'
complete -c vllm-guard -n "__vllm_guard_at ' env deactivate'" -s h -l help -d 'Show this message and exit.'
complete -c vllm-guard -n "__vllm_guard_at ' env diff'" -s p -l profile -x -a '(__vllm_guard_profiles)' -d 'As for `run`.'
complete -c vllm-guard -n "__vllm_guard_at ' env diff'" -s e -l env -x -a '(set -nx)' -d 'As for `run`.'
complete -c vllm-guard -n "__vllm_guard_at ' env diff'" -l unset -x -a '(set -nx)' -d 'As for `run`.'
complete -c vllm-guard -n "__vllm_guard_at ' env diff'" -l trust -x -d 'As for `run`.'
complete -c vllm-guard -n "__vllm_guard_at ' env diff'" -l python -r -F -d 'The interpreter whose vLLM is meant.'
complete -c vllm-guard -n "__vllm_guard_at ' env diff'" -l json -d 'One JSON document on stdout.'
complete -c vllm-guard -n "__vllm_guard_at ' env diff'" -l shell -x -a 'json dotenv docker k8s slurm bash zsh sh fish powershell' -d 'Only the changes, in this form, with values as they are.'
complete -c vllm-guard -n "__vllm_guard_at ' env diff'" -s h -l help -d 'Show this message and exit.'
complete -c vllm-guard -n "__vllm_guard_at ' env diff'" -a '(__vllm_guard_command)'
complete -c vllm-guard -n "__vllm_guard_at ' env show'" -l all -d 'Every variable, not only vLLM\'s stack.'
complete -c vllm-guard -n "__vllm_guard_at ' env show'" -l json -d 'One JSON document on stdout.'
complete -c vllm-guard -n "__vllm_guard_at ' env show'" -s h -l help -d 'Show this message and exit.'
complete -c vllm-guard -n "__vllm_guard_at ' env show'" -a '(set -nx)'
complete -c vllm-guard -n "__vllm_guard_at ' explain'" -l json -d 'One JSON document on stdout.'
complete -c vllm-guard -n "__vllm_guard_at ' explain'" -s h -l help -d 'Show this message and exit.'
complete -c vllm-guard -n "__vllm_guard_at ' explain'" -F -a '(__vllm_guard_named log; __vllm_guard_runs)'
complete -c vllm-guard -n "__vllm_guard_at ' fix'" -l write -d 'Change the files; without it a diff is printed.'
complete -c vllm-guard -n "__vllm_guard_at ' fix'" -l check -d 'Only say which would change; status 1 if one would.'
complete -c vllm-guard -n "__vllm_guard_at ' fix'" -s h -l help -d 'Show this message and exit.'
complete -c vllm-guard -n "__vllm_guard_at ' fix'" -F
complete -c vllm-guard -n "__vllm_guard_at ' profile'" -a allow -d 'Let a repository\'s profile be used, as long as it and what it extends stay as they are.'
complete -c vllm-guard -n "__vllm_guard_at ' profile'" -a check -d 'Check profiles against the schema and against the installed vLLM (all profiles by default).'
complete -c vllm-guard -n "__vllm_guard_at ' profile'" -a deny -d 'Never use this profile of a repository, whatever comes to be in it.'
complete -c vllm-guard -n "__vllm_guard_at ' profile'" -a diff -d 'Show how pinned profiles differ from those that they were copied from, as they are now.'
complete -c vllm-guard -n "__vllm_guard_at ' profile'" -a list -d 'List the profiles that can be named with -p.'
complete -c vllm-guard -n "__vllm_guard_at ' profile'" -a pin -d 'Copy profiles into this repository, with what they extend, and lock them in vllm-guard.lock.'
complete -c vllm-guard -n "__vllm_guard_at ' profile'" -a show -d 'Show what a profile does, with the reason for each change.'
complete -c vllm-guard -n "__vllm_guard_at ' profile'" -a verify -d 'Check this repository\'s pinned profiles against vllm-guard.lock; for CI.'
complete -c vllm-guard -n "__vllm_guard_at ' profile'" -s h -l help -d 'Show this message and exit.'
complete -c vllm-guard -n "__vllm_guard_at ' profile allow'" -s h -l help -d 'Show this message and exit.'
complete -c vllm-guard -n "__vllm_guard_at ' profile allow'" -a '(__vllm_guard_profiles)'
complete -c vllm-guard -n "__vllm_guard_at ' profile check'" -l python -r -F -d 'The interpreter whose vLLM is meant.'
complete -c vllm-guard -n "__vllm_guard_at ' profile check'" -l strict -d 'Warnings count as failures.'
complete -c vllm-guard -n "__vllm_guard_at ' profile check'" -l json -d 'One JSON document on stdout.'
complete -c vllm-guard -n "__vllm_guard_at ' profile check'" -s h -l help -d 'Show this message and exit.'
complete -c vllm-guard -n "__vllm_guard_at ' profile check'" -a '(__vllm_guard_profiles)'
complete -c vllm-guard -n "__vllm_guard_at ' profile deny'" -s h -l help -d 'Show this message and exit.'
complete -c vllm-guard -n "__vllm_guard_at ' profile deny'" -a '(__vllm_guard_profiles)'
complete -c vllm-guard -n "__vllm_guard_at ' profile diff'" -s h -l help -d 'Show this message and exit.'
complete -c vllm-guard -n "__vllm_guard_at ' profile diff'" -a '(__vllm_guard_profiles)'
complete -c vllm-guard -n "__vllm_guard_at ' profile list'" -l json -d 'One JSON document on stdout.'
complete -c vllm-guard -n "__vllm_guard_at ' profile list'" -s h -l help -d 'Show this message and exit.'
complete -c vllm-guard -n "__vllm_guard_at ' profile pin'" -l in -x -a '.vllm-guard profiles' -d 'The folder for the copies.'
complete -c vllm-guard -n "__vllm_guard_at ' profile pin'" -l vllm -x -d 'Also check against this vLLM.'
complete -c vllm-guard -n "__vllm_guard_at ' profile pin'" -l force -d 'Overwrite copies that were edited.'
complete -c vllm-guard -n "__vllm_guard_at ' profile pin'" -l python -r -F -d 'The interpreter whose vLLM is meant.'
complete -c vllm-guard -n "__vllm_guard_at ' profile pin'" -s h -l help -d 'Show this message and exit.'
complete -c vllm-guard -n "__vllm_guard_at ' profile pin'" -a '(__vllm_guard_profiles)'
complete -c vllm-guard -n "__vllm_guard_at ' profile show'" -l json -d 'One JSON document on stdout.'
complete -c vllm-guard -n "__vllm_guard_at ' profile show'" -s h -l help -d 'Show this message and exit.'
complete -c vllm-guard -n "__vllm_guard_at ' profile show'" -a '(__vllm_guard_profiles)'
complete -c vllm-guard -n "__vllm_guard_at ' profile verify'" -l outdated -d 'Fail also where the built-in profile is newer.'
complete -c vllm-guard -n "__vllm_guard_at ' profile verify'" -l python -r -F -d 'The interpreter whose vLLM is meant.'
complete -c vllm-guard -n "__vllm_guard_at ' profile verify'" -l strict -d 'Warnings count as failures.'
complete -c vllm-guard -n "__vllm_guard_at ' profile verify'" -l json -d 'One JSON document on stdout.'
complete -c vllm-guard -n "__vllm_guard_at ' profile verify'" -l format -x -a 'text json github' -d 'Form.'
complete -c vllm-guard -n "__vllm_guard_at ' profile verify'" -s h -l help -d 'Show this message and exit.'
complete -c vllm-guard -n "__vllm_guard_at ' report'" -s f -l format -x -a 'markdown json html' -d 'How it is written (default: markdown, which fills vLLM\'s form for bugs).'
complete -c vllm-guard -n "__vllm_guard_at ' report'" -s o -l output -r -F -d 'Write it there instead of to stdout.'
complete -c vllm-guard -n "__vllm_guard_at ' report'" -l json -d 'The same as --format json.'
complete -c vllm-guard -n "__vllm_guard_at ' report'" -s h -l help -d 'Show this message and exit.'
complete -c vllm-guard -n "__vllm_guard_at ' report'" -k -a '(__vllm_guard_runs)'
complete -c vllm-guard -n "__vllm_guard_at ' run'" -s p -l profile -x -a '(__vllm_guard_profiles)' -d 'Use this profile (a name, or a file); repeatable, later wins.'
complete -c vllm-guard -n "__vllm_guard_at ' run'" -s e -l env -x -a '(set -nx)' -d 'Set this variable for the run.'
complete -c vllm-guard -n "__vllm_guard_at ' run'" -l unset -x -a '(set -nx)' -d 'Unset this variable for the run.'
complete -c vllm-guard -n "__vllm_guard_at ' run'" -l keep -x -a '(set -nx)' -d 'No profile may touch this variable.'
complete -c vllm-guard -n "__vllm_guard_at ' run'" -l preflight -x -a 'off quick full' -d 'Which checks run first.'
complete -c vllm-guard -n "__vllm_guard_at ' run'" -l ignore -x -a '(__vllm_guard_named finding)' -d 'A failing finding with this id becomes a warning.'
complete -c vllm-guard -n "__vllm_guard_at ' run'" -l trust -x -d 'A repository\'s profile with this digest may be used (for CI).'
complete -c vllm-guard -n "__vllm_guard_at ' run'" -l main-guard -x -a 'auto definitions cutoff off' -d 'What child processes of an unguarded script run of it.'
complete -c vllm-guard -n "__vllm_guard_at ' run'" -l exec -d 'Check, then replace this process: no supervision.'
complete -c vllm-guard -n "__vllm_guard_at ' run'" -l no-watch -d 'The command inherits stdout and stderr untouched.'
complete -c vllm-guard -n "__vllm_guard_at ' run'" -l allow-daemon -d 'What outlives the command may live on.'
complete -c vllm-guard -n "__vllm_guard_at ' run'" -l deadline -x -d 'End the run after this time; exit 124.'
complete -c vllm-guard -n "__vllm_guard_at ' run'" -l stall -x -a 'report kill off' -d 'What to do when a vLLM that starts moves no more.'
complete -c vllm-guard -n "__vllm_guard_at ' run'" -l stall-after -x -d 'That is: no sign of life so long.'
complete -c vllm-guard -n "__vllm_guard_at ' run'" -l python -r -F -d 'The interpreter that the command will use.'
complete -c vllm-guard -n "__vllm_guard_at ' run'" -l json -r -F -d 'Write the record of the run to this file.'
complete -c vllm-guard -n "__vllm_guard_at ' run'" -l on-ready -x -d 'Run this shell command once vLLM is ready.'
complete -c vllm-guard -n "__vllm_guard_at ' run'" -l progress -d 'Phases of the start; on a terminal a live line as well.'
complete -c vllm-guard -n "__vllm_guard_at ' run'" -l quiet-child -d 'What the command writes goes to the record only.'
complete -c vllm-guard -n "__vllm_guard_at ' run'" -s n -l dry-run -d 'Print the plan and the exact command; start nothing.'
complete -c vllm-guard -n "__vllm_guard_at ' run'" -s q -l quiet -d 'Only warnings and failures.'
complete -c vllm-guard -n "__vllm_guard_at ' run'" -s v -l verbose -d 'More: every finding, with reasons and links.'
complete -c vllm-guard -n "__vllm_guard_at ' run'" -s h -l help -d 'Show this message and exit.'
complete -c vllm-guard -n "__vllm_guard_at ' run'" -a '(__vllm_guard_command)'
complete -c vllm-guard -n "__vllm_guard_at ' runs'" -a clean -d 'End and remove what is left of runs whose guard and keeper were killed.'
complete -c vllm-guard -n "__vllm_guard_at ' runs'" -a list -d 'List the runs that are recorded or under way, the newest last.'
complete -c vllm-guard -n "__vllm_guard_at ' runs'" -a show -d 'Show the record of a run (default: the newest).'
complete -c vllm-guard -n "__vllm_guard_at ' runs'" -s h -l help -d 'Show this message and exit.'
complete -c vllm-guard -n "__vllm_guard_at ' runs clean'" -l records -d 'Remove the records of ended runs as well.'
complete -c vllm-guard -n "__vllm_guard_at ' runs clean'" -l json -d 'One JSON document on stdout.'
complete -c vllm-guard -n "__vllm_guard_at ' runs clean'" -s h -l help -d 'Show this message and exit.'
complete -c vllm-guard -n "__vllm_guard_at ' runs list'" -l json -d 'One JSON document on stdout.'
complete -c vllm-guard -n "__vllm_guard_at ' runs list'" -s h -l help -d 'Show this message and exit.'
complete -c vllm-guard -n "__vllm_guard_at ' runs show'" -l json -d 'One JSON document on stdout.'
complete -c vllm-guard -n "__vllm_guard_at ' runs show'" -s h -l help -d 'Show this message and exit.'
complete -c vllm-guard -n "__vllm_guard_at ' runs show'" -k -a '(__vllm_guard_runs)'
complete -c vllm-guard -n "__vllm_guard_at ' -'" -s p -l profile -x -a '(__vllm_guard_profiles)' -d 'Use this profile (a name, or a file); repeatable, later wins.'
complete -c vllm-guard -n "__vllm_guard_at ' -'" -s e -l env -x -a '(set -nx)' -d 'Set this variable for the run.'
complete -c vllm-guard -n "__vllm_guard_at ' -'" -l unset -x -a '(set -nx)' -d 'Unset this variable for the run.'
complete -c vllm-guard -n "__vllm_guard_at ' -'" -l keep -x -a '(set -nx)' -d 'No profile may touch this variable.'
complete -c vllm-guard -n "__vllm_guard_at ' -'" -l preflight -x -a 'off quick full' -d 'Which checks run first.'
complete -c vllm-guard -n "__vllm_guard_at ' -'" -l ignore -x -a '(__vllm_guard_named finding)' -d 'A failing finding with this id becomes a warning.'
complete -c vllm-guard -n "__vllm_guard_at ' -'" -l trust -x -d 'A repository\'s profile with this digest may be used (for CI).'
complete -c vllm-guard -n "__vllm_guard_at ' -'" -l main-guard -x -a 'auto definitions cutoff off' -d 'What child processes of an unguarded script run of it.'
complete -c vllm-guard -n "__vllm_guard_at ' -'" -l exec -d 'Check, then replace this process: no supervision.'
complete -c vllm-guard -n "__vllm_guard_at ' -'" -l no-watch -d 'The command inherits stdout and stderr untouched.'
complete -c vllm-guard -n "__vllm_guard_at ' -'" -l allow-daemon -d 'What outlives the command may live on.'
complete -c vllm-guard -n "__vllm_guard_at ' -'" -l deadline -x -d 'End the run after this time; exit 124.'
complete -c vllm-guard -n "__vllm_guard_at ' -'" -l stall -x -a 'report kill off' -d 'What to do when a vLLM that starts moves no more.'
complete -c vllm-guard -n "__vllm_guard_at ' -'" -l stall-after -x -d 'That is: no sign of life so long.'
complete -c vllm-guard -n "__vllm_guard_at ' -'" -l python -r -F -d 'The interpreter that the command will use.'
complete -c vllm-guard -n "__vllm_guard_at ' -'" -l json -r -F -d 'Write the record of the run to this file.'
complete -c vllm-guard -n "__vllm_guard_at ' -'" -l on-ready -x -d 'Run this shell command once vLLM is ready.'
complete -c vllm-guard -n "__vllm_guard_at ' -'" -l progress -d 'Phases of the start; on a terminal a live line as well.'
complete -c vllm-guard -n "__vllm_guard_at ' -'" -l quiet-child -d 'What the command writes goes to the record only.'
complete -c vllm-guard -n "__vllm_guard_at ' -'" -s n -l dry-run -d 'Print the plan and the exact command; start nothing.'
complete -c vllm-guard -n "__vllm_guard_at ' -'" -s q -l quiet -d 'Only warnings and failures.'
complete -c vllm-guard -n "__vllm_guard_at ' -'" -s v -l verbose -d 'More: every finding, with reasons and links.'
complete -c vllm-guard -n "__vllm_guard_at ' -'" -s h -l help -d 'Show this message and exit.'
complete -c vllm-guard -n "__vllm_guard_at ' -'" -l version -d 'Show the version and exit.'
complete -c vllm-guard -n "__vllm_guard_at ' -'" -a '--'

complete -c vllm-guard -n __vllm_guard_in_command -a '(__vllm_guard_command)'

# Where the cursor is: after these verbs (` -`: the bare form), or in the command that begins at word N.
function __vllm_guard_place
    set -l words (commandline -opc)
    set -l verb ''
    set -l value no
    set -l at 1
    set -e words[1]
    for word in $words
        set at (math $at + 1)
        if test $value = yes
            set value no
        else if test "$word" = --; and __vllm_guard_takes_command "$verb" --
            math $at + 1
            return
        else if string match -q -- '-*' "$word"
            test -n "$verb"; or set verb ' -'
            __vllm_guard_takes_value "$verb $word"; and set value yes
        else if __vllm_guard_is_verb "$verb $word"
            set verb "$verb $word"
        else if __vllm_guard_takes_command "$verb" ''
            echo $at
            return
        end
    end
    echo $verb
end

function __vllm_guard_at
    set -l place (__vllm_guard_place)
    test "$place" = "$argv[1]"
end

function __vllm_guard_in_command
    string match -qr '^\d+$' -- (__vllm_guard_place)
end

# What the command completes by itself.
function __vllm_guard_command
    set -l place (__vllm_guard_place)
    set -l words (commandline -opc)
    string match -qr '^\d+$' -- $place; or set place (math (count $words) + 1)
    set -e words[1..(math $place - 1)]
    complete -C (string join ' ' -- (string escape -- $words) (commandline -ct))
end

function __vllm_guard_profiles
    set -l config ~/.config
    string match -q -- '/*' "$XDG_CONFIG_HOME"; and set config $XDG_CONFIG_HOME
    set -l files $config/vllm-guard/profiles/*.toml
    set -l folder (pwd -P 2>/dev/null)
    set -l root
    while test -n "$folder" -a -z "$root"
        test -e $folder/.git -o -L $folder/.git; and set root yes
        test "$folder" = "$HOME" -a -z "$root"; and break
        set -a files $folder/profiles/*.toml $folder/.vllm-guard/*.toml
        set folder (string replace -r '/[^/]*$' '' -- $folder)
    end
    __vllm_guard_named profile
    string replace -r '.*/(.*)\.toml$' '$1' -- (string match -rv '\p{C}' -- $files)
    string match -q -- '*/*' (commandline -ct); and __fish_complete_path (commandline -ct)
end

function __vllm_guard_runs
    set -l state ~/.local/state
    string match -q -- '/*' "$XDG_STATE_HOME"; and set state $XDG_STATE_HOME
    set -l folders $state/vllm-guard/runs/*
    string replace -r '.*/' '' -- (string match -rv '\p{C}' -- $folders)
end
