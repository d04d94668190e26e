# bash completion of vllm-guard, written by `make completions`.
#
# It runs no program and opens no file: profiles and runs are the names in their folders.

# Enter the verb of that path.
_vllm_guard_verb() {
    verb=$1 verbs='' flags='' argument='' most=0
    case $1 in
        '')
            verbs='check completion doctor env explain fix profile report run runs' argument='' most=0
            flags='-p --profile -e --env --unset --keep --preflight --ignore --trust --main-guard
              --exec --no-watch --allow-daemon --deadline --stall --stall-after --python --json
              --on-ready --progress --quiet-child -n --dry-run -q --quiet -v --verbose -h --help
              --version'
            ;;
        ' check')
            verbs='' argument='file' most=-1
            flags='--format --explain --strict -h --help'
            ;;
        ' completion')
            verbs='' argument='=bash zsh fish powershell' most=1
            flags='-h --help'
            ;;
        ' doctor')
            verbs='' argument='command' most=-1
            flags='--full --only --skip --ignore --list -p --profile -e --env --unset --trust
              --python --strict -v --verbose --json --format -h --help'
            ;;
        ' env')
            verbs='activate audit clean deactivate diff show' argument='' most=0
            flags='-h --help'
            ;;
        ' env activate')
            verbs='' argument='profile' most=-1
            flags='-e --env --unset --trust --python --shell -h --help'
            ;;
        ' env audit')
            verbs='' argument='command' most=-1
            flags='--pid --file --python --strict --json -h --help'
            ;;
        ' env clean')
            verbs='' argument='' most=0
            flags='--shell -h --help'
            ;;
        ' env deactivate')
            verbs='' argument='' most=0
            flags='--shell -h --help'
            ;;
        ' env diff')
            verbs='' argument='command' most=-1
            flags='-p --profile -e --env --unset --trust --python --json --shell -h --help'
            ;;
        ' env show')
            verbs='' argument='variable' most=-1
            flags='--all --json -h --help'
            ;;
        ' explain')
            verbs='' argument='log' most=1
            flags='--json -h --help'
            ;;
        ' fix')
            verbs='' argument='file' most=-1
            flags='--write --check -h --help'
            ;;
        ' profile')
            verbs='allow check deny diff list pin show verify' argument='' most=0
            flags='-h --help'
            ;;
        ' profile allow')
            verbs='' argument='profile' most=1
            flags='-h --help'
            ;;
        ' profile check')
            verbs='' argument='profile' most=-1
            flags='--python --strict --json -h --help'
            ;;
        ' profile deny')
            verbs='' argument='profile' most=1
            flags='-h --help'
            ;;
        ' profile diff')
            verbs='' argument='profile' most=-1
            flags='-h --help'
            ;;
        ' profile list')
            verbs='' argument='' most=0
            flags='--json -h --help'
            ;;
        ' profile pin')
            verbs='' argument='profile' most=-1
            flags='--in --vllm --force --python -h --help'
            ;;
        ' profile show')
            verbs='' argument='profile' most=1
            flags='--json -h --help'
            ;;
        ' profile verify')
            verbs='' argument='' most=0
            flags='--outdated --python --strict --json --format -h --help'
            ;;
        ' report')
            verbs='' argument='run' most=1
            flags='-f --format -o --output --json -h --help'
            ;;
        ' run')
            verbs='' argument='command' most=-1
            flags='-p --profile -e --env --unset --keep --preflight --ignore --trust --main-guard
              --exec --no-watch --allow-daemon --deadline --stall --stall-after --python --json
              --on-ready --progress --quiet-child -n --dry-run -q --quiet -v --verbose -h --help'
            ;;
        ' runs')
            verbs='clean list show' argument='' most=0
            flags='-h --help'
            ;;
        ' runs clean')
            verbs='' argument='' most=0
            flags='--records --json -h --help'
            ;;
        ' runs list')
            verbs='' argument='' most=0
            flags='--json -h --help'
            ;;
        ' runs show')
            verbs='' argument='run' most=1
            flags='--json -h --help'
            ;;
        ' -')
            verbs='' argument='=--' most=-1
            flags='-p --profile -e --env --unset --keep --preflight --ignore --trust --main-guard
              --exec --no-watch --allow-daemon --deadline --stall --stall-after --python --json
              --on-ready --progress --quiet-child -n --dry-run -q --quiet -v --verbose -h --help
              --version'
            ;;
    esac
}

# What kind of value the flag takes, if any.
_vllm_guard_flag() {
    case $1 in
        ' -p') kind='profile' ;;
        ' --profile') kind='profile' ;;
        ' -e') kind='variable' ;;
        ' --env') kind='variable' ;;
        ' --unset') kind='variable' ;;
        ' --keep') kind='variable' ;;
        ' --preflight') kind='=off quick full' ;;
        ' --ignore') kind='finding' ;;
        ' --trust') kind='free' ;;
        ' --main-guard') kind='=auto definitions cutoff off' ;;
        ' --deadline') kind='free' ;;
        ' --stall') kind='=report kill off' ;;
        ' --stall-after') kind='free' ;;
        ' --python') kind='file' ;;
        ' --json') kind='file' ;;
        ' --on-ready') kind='free' ;;
        ' check --format') kind='=text json github sarif' ;;
        ' doctor --only') kind='check' ;;
        ' doctor --skip') kind='check' ;;
        ' doctor --ignore') kind='finding' ;;
        ' doctor -p') kind='profile' ;;
        ' doctor --profile') kind='profile' ;;
        ' doctor -e') kind='variable' ;;
        ' doctor --env') kind='variable' ;;
        ' doctor --unset') kind='variable' ;;
        ' doctor --trust') kind='free' ;;
        ' doctor --python') kind='file' ;;
        ' doctor --format') kind='=text json nagios github junit' ;;
        ' env activate -e') kind='variable' ;;
        ' env activate --env') kind='variable' ;;
        ' env activate --unset') kind='variable' ;;
        ' env activate --trust') kind='free' ;;
        ' env activate --python') kind='file' ;;
        ' env activate --shell') kind='=bash zsh sh fish powershell' ;;
        ' env audit --pid') kind='free' ;;
        ' env audit --file') kind='file' ;;
        ' env audit --python') kind='file' ;;
        ' env clean --shell') kind='=bash zsh sh fish powershell' ;;
        ' env deactivate --shell') kind='=bash zsh sh fish powershell' ;;
        ' env diff -p') kind='profile' ;;
        ' env diff --profile') kind='profile' ;;
        ' env diff -e') kind='variable' ;;
        ' env diff --env') kind='variable' ;;
        ' env diff --unset') kind='variable' ;;
        ' env diff --trust') kind='free' ;;
        ' env diff --python') kind='file' ;;
        ' env diff --shell') kind='=json dotenv docker k8s slurm bash zsh sh fish powershell' ;;
        ' profile check --python') kind='file' ;;
        ' profile pin --in') kind='=.vllm-guard profiles' ;;
        ' profile pin --vllm') kind='free' ;;
        ' profile pin --python') kind='file' ;;
        ' profile verify --python') kind='file' ;;
        ' profile verify --format') kind='=text json github' ;;
        ' report -f') kind='=markdown json html' ;;
        ' report --format') kind='=markdown json html' ;;
        ' report -o') kind='file' ;;
        ' report --output') kind='file' ;;
        ' run -p') kind='profile' ;;
        ' run --profile') kind='profile' ;;
        ' run -e') kind='variable' ;;
        ' run --env') kind='variable' ;;
        ' run --unset') kind='variable' ;;
        ' run --keep') kind='variable' ;;
        ' run --preflight') kind='=off quick full' ;;
        ' run --ignore') kind='finding' ;;
        ' run --trust') kind='free' ;;
        ' run --main-guard') kind='=auto definitions cutoff off' ;;
        ' run --deadline') kind='free' ;;
        ' run --stall') kind='=report kill off' ;;
        ' run --stall-after') kind='free' ;;
        ' run --python') kind='file' ;;
        ' run --json') kind='file' ;;
        ' run --on-ready') kind='free' ;;
        ' - -p') kind='profile' ;;
        ' - --profile') kind='profile' ;;
        ' - -e') kind='variable' ;;
        ' - --env') kind='variable' ;;
        ' - --unset') kind='variable' ;;
        ' - --keep') kind='variable' ;;
        ' - --preflight') kind='=off quick full' ;;
        ' - --ignore') kind='finding' ;;
        ' - --trust') kind='free' ;;
        ' - --main-guard') kind='=auto definitions cutoff off' ;;
        ' - --deadline') kind='free' ;;
        ' - --stall') kind='=report kill off' ;;
        ' - --stall-after') kind='free' ;;
        ' - --python') kind='file' ;;
        ' - --json') kind='file' ;;
        ' - --on-ready') kind='free' ;;
    esac
}

# Offer the words of that kind that are always there.
_vllm_guard_named() {
    local words=''
    case $1 in
        profile)
            words='clean debug dummy-weights eager nccl network p2p-off single-process stats trace
              vllm-sampling'
            ;;
        finding)
            words='active-in-shell allocator-conflict api-key-on-command-line c-compiler cache-clock
              cgroup-memory cgroup-pids cold-compile collective-gpus collective-meet collective-others
              collective-reach collective-settings collective-slurm collective-versions
              collective-world command-not-executable command-not-found command-shell config-file
              containment cuda-before-fork dead-run debug-left-on disk-space engine-option-added
              engine-option-default engine-option-kept engine-option-type engine-option-unknown
              engine-options-apart engine-options-not-applied flag-file flag-unknown flag-value flags
              generation-config glibc gloo-interface gpu-architecture gpu-compute-mode gpu-count
              gpu-ecc gpu-memory gpu-mig gpu-order gpu-p2p gpu-p2p-cache gpu-slowed gpu-unknown
              gpu-xid gpus host-ip host-memory host-not-here host-oom-kill hub-answers hub-gated
              hub-model hub-revision hub-token inside-run interpreter-unusable jit-tools
              kv-cache-dtype left-behind loopback main-guard-marker main-guard-missing
              main-guard-not-applied main-guard-not-needed master-address master-port memlock
              model-blocks model-cached model-chat-template model-complete model-config model-dtype
              model-experts model-filesystem model-heads model-intermediate model-length model-memory
              model-not-cached model-path model-quantization model-read-rate model-supported
              model-tokenizer model-unfinished nccl-interface network-picks nodes nofile notebook
              notebook-functions p2p-half-off package-mismatch packages pin-drift pin-guard-older
              pin-invalid pin-missing pin-outdated pin-unknown-key pin-unlocked port-busy port-free
              port-invalid port-privileged port-shared port-unknown probe-unknown profile-invalid
              profile-valid profile-version prompts-in-log proxy-local ptrace-scope ptxas
              python-headers ray-not-copied ray-own rdma repository-defaults repository-ignore
              script-missing script-unreadable server-ended service-link shared-memory shell-active
              shm-missing shm-size shm-stale socket-ifname stall subcommand-unknown torch-build
              torch-import variable-changed variable-deprecated variable-inert variable-kept
              variable-name variable-overridden variable-removed variable-required variable-unknown
              variable-value visible-devices vllm-address vllm-found vllm-metadata vllm-not-found
              vllm-port vllm-shadowed'
            ;;
        check)
            words='api-key collective compile config-file dead-runs disk environment flag-files
              flag-value flags generation-config gpu-health gpu-links gpu-memory gpus host-memory
              inspect limits load model model-complete model-dtype model-hub model-memory
              model-quantization model-shape model-split model-storage model-supported network
              network-picks no-python packages platform port profile-keys rendezvous script
              shared-memory subcommand toolchain torch torch-build vllm-install'
            ;;
        log)
            words='active-in-shell address-in-use address-not-local allocator-conflict
              allreduce-peer-access api-key-on-command-line architecture-dropped
              architecture-not-inspected architecture-null architecture-plugin
              architecture-unsupported argument-json-refused argument-not-a-choice argument-not-json
              argument-refused argument-without-value arguments-missing arguments-unrecognised
              attention-backend-invalid attention-backend-none batched-tokens-below-length
              batched-tokens-below-seqs bfloat16-unsupported bind-permission block-size-unsupported
              breakpoint-in-worker broadcast-wait buffers-modified c-compiler c-compiler-missing
              c-headers-missing cache-clock cache-permission capture-disabled capture-invalidated
              capture-not-permitted capture-out-of-memory certificate-missing cgroup-memory
              cgroup-pids chat-template-broken chat-template-file chat-template-missing
              chat-template-refuses chat-template-slow child-died cold-compile collective-gpus
              collective-meet collective-others collective-reach collective-settings collective-slurm
              collective-versions collective-world command-not-executable command-not-found
              command-shell compile-backend-failed compile-cache-broken compile-not-serializable
              compiler-command-failed config-file config-file-refused config-missing config-not-json
              configuration-key-unknown configuration-refused configuration-type
              connector-expandable-segments container-cli-failed containment context-parallel-heads
              cpu-kv-cache-too-large cpu-memory-taken crash-segfault crashed-last-line
              cublas-no-memory cuda-802 cuda-803 cuda-804 cuda-before-fork cuda-device-count
              cuda-headers-missing cuda-home-colon cuda-home-unset cuda-in-forked-process
              cuda-library-missing cuda-out-of-memory cudagraph-mode-unsupported
              cudagraph-sizes-contradict custom-allreduce-off custom-op-missing cxx-compiler-missing
              dead-run debug-left-on device-assert device-list-short device-not-inferred
              disk-read-error disk-space disk-too-small docker-no-gpu-driver download-broken
              dp-config-differs dp-coordinator dp-handshake dp-headless driver-insufficient
              driver-too-old dtype-unknown dynamo-constraint dynamo-runtime-error dynamo-unsupported
              engine-core-died engine-core-failed engine-core-traceback engine-dead
              engine-option-added engine-option-default engine-option-kept engine-option-type
              engine-option-unknown engine-options-apart engine-options-not-applied
              engine-process-failed engine-ready-timeout engine-start-local engine-start-pending
              engine-stopped-with-server entrypoint-missing entrypoint-not-executable exec-format
              executor-unsupported external-launcher-gloo feature-unsupported few-open-files
              file-not-on-hub flag-file flag-unknown flag-value flags flash-attention-gpu
              flashinfer-architecture flashinfer-build-failed flashinfer-workspace float16-unsupported
              fp8-block-shape fp8-triton-ampere frontend-failed gated-model generation-config glibc
              glibc-too-old gloo-interface gloo-interface-missing gloo-loopback gloo-mesh
              gloo-no-device gpu-architecture gpu-architecture-missing gpu-architecture-warning
              gpu-busy gpu-compute-mode gpu-count gpu-ecc gpu-ecc-error gpu-memory
              gpu-memory-external-weights gpu-memory-taken gpu-mig gpu-order gpu-out-of-memory gpu-p2p
              gpu-p2p-cache gpu-slowed gpu-unknown gpu-xid gpu-xid-follows gpu-xid-gsp gpu-xid-line
              gpu-xid-lost gpu-xid-memory gpu-xid-nvlink gpu-xid-program gpu-xid-remapped gpus
              graph-replay-error gunicorn-worker-timeout headless-contradiction heads-not-divisible
              heap-corrupted hf-transfer-failed hf-transfer-missing host-ip host-ip-ignored
              host-ip-unknown host-memory host-not-here host-oom-kill host-out-of-memory hub-answers
              hub-certificate hub-gated hub-model hub-name-resolution hub-rate-limit hub-retry
              hub-revision hub-token hub-unreachable illegal-memory-access inductor-error inside-run
              interpreter-unusable invalid-device-ordinal invalid-http-request jit-out-of-memory
              jit-tools kernel-assertion keyboard-interrupt killed killed-by-sigabrt killed-by-sigill
              killed-by-sigsegv killed-last-line killed-line kv-allocation-out-of-memory
              kv-cache-auto-fit kv-cache-dtype kv-cache-none kv-cache-too-small kv-cache-too-small-v0
              kv-heads-not-divisible launch-failure layer-size-not-divisible leaked-shared-memory
              left-behind libcuda-not-found libcuda-not-linked libstdcxx-too-old linear-kernel-none
              load-out-of-memory log-level logging-config loopback lora-empty lora-model lora-modules
              lora-not-enabled lora-not-found lora-rank lora-weight main-guard-marker
              main-guard-missing main-guard-not-applied main-guard-not-needed mamba-cache-too-small
              marlin-shape master-address master-port max-model-len-too-long memlock
              memory-profiling-disturbed metadata-missing method-failed-on-worker misaligned-address
              mm-item-too-large mm-limit mm-local-files mm-media-path mm-placeholders mm-processor
              mmap-failed model-blocks model-cached model-chat-template model-complete model-config
              model-dtype model-experts model-filesystem model-heads model-intermediate
              model-is-a-file model-length model-memory model-name model-not-cached model-not-given
              model-not-on-hub model-packages-missing model-path model-path-missing model-quantization
              model-read-rate model-runner-unsupported model-supported model-tokenizer
              model-type-missing model-type-unknown model-unfinished modelscope-missing nan-logits
              nanobind-leak nccl-connect nccl-cuda-error nccl-duplicate-gpu nccl-ib-completion
              nccl-interface nccl-invalid-usage nccl-library nccl-memlock nccl-no-interface
              nccl-peer-access nccl-setting nccl-shm-full nccl-shm-not-shared nccl-system-error
              nccl-timeout nccl-versions-differ network-picks ninja-missing no-driver no-gpu
              no-loopback no-space nodes nofile notebook notebook-functions numactl-missing
              nvcc-architecture nvcc-gcc-too-new nvcc-missing nvml-mismatch nvml-unknown
              object-storage-load-format offline-not-cached oom-killer output-handler-failed
              p2p-half-off p2p-test-failed package-mismatch packages parser-tokenizer peer-gone
              pickle-refused piecewise-graphs-unavailable pin-drift pin-guard-older pin-invalid
              pin-missing pin-outdated pin-unknown-key pin-unlocked pipeline-unsupported
              platform-plugins platform-unspecified pod-crash-loop pod-evicted pod-image-pull
              pod-no-gpu pod-oom-killed pooler-out-of-memory port-busy port-free port-invalid
              port-out-of-range port-privileged port-shared port-unknown probe-unknown
              process-group-not-destroyed process-limit processor-not-loaded profile-invalid
              profile-out-of-memory profile-valid profile-version prompt-too-long prompts-in-log
              proxy-local ptrace-scope ptx-toolchain ptxas ptxas-architecture ptxas-failed
              python-headers python-headers-missing quantization-capability
              quantization-config-missing quantization-contradicts-model quantization-dtype
              quantization-platform quantization-scheme-capability quantization-unknown
              quantized-shape ray-actor-died ray-missing ray-no-cluster ray-no-gpu-here
              ray-no-placement ray-not-copied ray-object-store-full ray-out-of-memory ray-own
              ray-placement-waits ray-same-address ray-versions-differ raylet-died rdma read-only-disk
              reasoning-parser-unknown rendezvous-incomplete rendezvous-port-busy rendezvous-timeout
              repository-defaults repository-disabled repository-ignore revision-unknown rpc-timeout
              runner-unsupported rust-frontend-missing safetensors-cut-off safetensors-not-one
              sampler-out-of-memory script-missing script-unreadable server-ended service-link
              serving-out-of-memory shard-missing sharded-state-missing shared-memory shell-aborted
              shell-active shell-illegal-instruction shm-bus-error shm-bus-error-reported shm-full
              shm-missing shm-read-only shm-size shm-stale shm-too-small size-not-divisible
              sleep-mode-unsupported slurm-node-failure slurm-out-of-memory slurm-preempted
              slurm-time-limit socket-ifname spawn-forced speculative-tokens-missing
              speculative-tokens-too-many stale-file-handle stall stopped-while-starting
              subcommand-unknown swap-space-too-large systemd-dumped systemd-killed systemd-oom
              systemd-start-limit systemd-timeout token-invalid tokenizer-class-unknown
              tokenizer-library-missing tokenizer-not-json tokenizer-not-loaded too-many-open-files
              tool-choice-flags tool-parser-not-given tool-parser-unknown torch-build torch-import
              torch-not-installed torch-shm torch-without-cuda torchrun-child-failed
              torchvision-mismatch transformers-incompatible triton-mismatch triton-out-of-resource
              trust-remote-code undefined-symbol unguarded-script variable-changed variable-choice
              variable-deprecated variable-inert variable-kept variable-name variable-not-a-number
              variable-not-known variable-overridden variable-refused variable-removed
              variable-required variable-unknown variable-value visible-devices
              visible-devices-contradict vllm-address vllm-c-missing vllm-c-not-imported
              vllm-command-not-found vllm-found vllm-metadata vllm-module-missing vllm-not-found
              vllm-not-installed vllm-port vllm-port-uri vllm-port-value vllm-shadowed
              wake-up-out-of-memory weight-key weight-name weight-shape weights-missing
              weights-not-initialized worker-died worker-error-relayed worker-init-failed
              worker-process-died worker-stopped-cleanly worker-traceback world-too-large xet-failed'
            ;;
    esac
    _vllm_guard_offer $words
}

_vllm_guard() {
    local IFS=$' \t\n' cur=${COMP_WORDS[COMP_CWORD]} verb='' given=0 kind='' i word
    local verbs flags argument most
    COMPREPLY=()
    _vllm_guard_verb ''
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ $word == = ]]; then # readline makes three words of --flag=value
            continue
        elif [[ $kind ]]; then
            kind=''
        elif [[ $word == -- && ($argument == command || ${verb:- -} == ' -') ]]; then
            _vllm_guard_command $((i + 1))
            return
        elif [[ $word == -* ]]; then
            [[ $verb ]] || _vllm_guard_verb ' -'
            _vllm_guard_flag "$verb $word"
        elif [[ " $verbs " == *" $word "* ]]; then
            _vllm_guard_verb "$verb $word"
        elif [[ $argument == command ]]; then
            _vllm_guard_command "$i"
            return
        else
            given=$((given + 1))
        fi
    done
    [[ $cur == = ]] && cur=''
    if [[ $kind ]]; then
        _vllm_guard_value "$kind"
    elif [[ $cur == -* ]]; then
        _vllm_guard_offer $flags
    elif [[ $verbs ]]; then
        _vllm_guard_offer $verbs
    elif [[ $argument == command ]]; then
        _vllm_guard_command "$COMP_CWORD"
    elif ((most < 0 || given < most)); then
        _vllm_guard_value "$argument"
    fi
}

# What may stand where a value of kind $1 does.
_vllm_guard_value() {
    case $1 in
        =*) _vllm_guard_offer ${1#=} ;;
        file) compopt -o default ;;
        variable) COMPREPLY=($(compgen -e -- "$cur")) ;;
        run) _vllm_guard_runs ;;
        profile) _vllm_guard_profiles ;;
        log)
            _vllm_guard_named "$1"
            _vllm_guard_runs
            ;;
        *) _vllm_guard_named "$1" ;;
    esac
    [[ ${COMPREPLY[*]} ]] || case $1 in profile | log) compopt -o default ;; esac
}

# The words among these that begin as the current one does.
_vllm_guard_offer() {
    local word
    for word; do
        [[ $word == "$cur"* ]] && COMPREPLY+=("$word")
    done
}

_vllm_guard_profiles() {
    local folder name root='' config=${XDG_CONFIG_HOME-}
    local -a folders names
    folder=$(pwd -P 2>/dev/null)
    [[ $config == /* ]] || config=$HOME/.config
    folders=("$config/vllm-guard/profiles")
    while [[ $folder && ! $root ]]; do
        [[ -e $folder/.git || -L $folder/.git ]] && root=yes
        [[ $folder -ef $HOME && ! $root ]] && break
        folders+=("$folder/profiles" "$folder/.vllm-guard")
        folder=${folder%/*}
    done
    _vllm_guard_named profile
    mapfile -d '' -t names < <(_vllm_guard_names .toml "${folders[@]}")
    for name in "${names[@]}"; do
        _vllm_guard_quoted "$name"
    done
}

_vllm_guard_runs() {
    local state=${XDG_STATE_HOME-}
    local -a names
    [[ $state == /* ]] || state=$HOME/.local/state
    mapfile -d '' -t names < <(_vllm_guard_names '' "$state/vllm-guard/runs")
    _vllm_guard_offer "${names[@]}"
}

# The names that end so (without that end) in these folders, each ended by NUL; whatever options the user has set.
_vllm_guard_names() {
    local folder path
    set +f
    shopt -s nullglob
    shopt -u dotglob failglob nocaseglob
    GLOBIGNORE=
    for folder in "${@:2}"; do
        for path in "$folder"/*"$1"; do
            path=${path##*/}
            [[ $path == *[^[:print:]]* ]] || printf '%s\0' "${path%"$1"}"
        done
    done
}

# Offer a name as the shell must read it. In open quotes no backslash helps: only what needs none.
_vllm_guard_quoted() {
    local name=$1
    if [[ $cur == [\'\"]* ]]; then
        [[ $name == *[\'\"\`\$\\!]* || $name != "${cur:1}"* ]] || COMPREPLY+=("$name")
    else
        printf -v name %q "$name"
        _vllm_guard_offer "$name"
    fi
}

# What the command whose first word is COMP_WORDS[$1] completes by itself.
_vllm_guard_command() {
    if declare -F _comp_command_offset >/dev/null; then
        _comp_command_offset "$1"
    elif declare -F _command_offset >/dev/null; then
        _command_offset "$1"
    elif (($1 == COMP_CWORD)); then
        COMPREPLY=($(compgen -c -- "$cur"))
    else
        compopt -o bashdefault -o default
    fi
}

complete -F _vllm_guard vllm-guard
