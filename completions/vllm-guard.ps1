# PowerShell completion of vllm-guard, written by `make completions`; dot-source it from $PROFILE.
#
# It runs no program and opens no file: profiles and runs are the names in their folders.

Register-ArgumentCompleter -Native -CommandName vllm-guard -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)

    $verbs = [hashtable]::new([StringComparer]::Ordinal)
    $verbs[''] = @{ verbs = 'check completion doctor env explain fix profile report run runs'; argument = ''; flags = '-p --profile -e --env --unset --keep --preflight --ignore --trust --main-guard --exec --no-watch --allow-daemon --deadline --stall --stall-after --python --json --on-ready --progress --quiet-child -n --dry-run -q --quiet -v --verbose -h --help --version'; most = 0 }
    $verbs[' check'] = @{ verbs = ''; argument = 'file'; flags = '--format --explain --strict -h --help'; most = -1 }
    $verbs[' completion'] = @{ verbs = ''; argument = '=bash zsh fish powershell'; flags = '-h --help'; most = 1 }
    $verbs[' doctor'] = @{ verbs = ''; argument = 'command'; flags = '--full --only --skip --ignore --list -p --profile -e --env --unset --trust --python --strict -v --verbose --json --format -h --help'; most = -1 }
    $verbs[' env'] = @{ verbs = 'activate audit clean deactivate diff show'; argument = ''; flags = '-h --help'; most = 0 }
    $verbs[' env activate'] = @{ verbs = ''; argument = 'profile'; flags = '-e --env --unset --trust --python --shell -h --help'; most = -1 }
    $verbs[' env audit'] = @{ verbs = ''; argument = 'command'; flags = '--pid --file --python --strict --json -h --help'; most = -1 }
    $verbs[' env clean'] = @{ verbs = ''; argument = ''; flags = '--shell -h --help'; most = 0 }
    $verbs[' env deactivate'] = @{ verbs = ''; argument = ''; flags = '--shell -h --help'; most = 0 }
    $verbs[' env diff'] = @{ verbs = ''; argument = 'command'; flags = '-p --profile -e --env --unset --trust --python --json --shell -h --help'; most = -1 }
    $verbs[' env show'] = @{ verbs = ''; argument = 'variable'; flags = '--all --json -h --help'; most = -1 }
    $verbs[' explain'] = @{ verbs = ''; argument = 'log'; flags = '--json -h --help'; most = 1 }
    $verbs[' fix'] = @{ verbs = ''; argument = 'file'; flags = '--write --check -h --help'; most = -1 }
    $verbs[' profile'] = @{ verbs = 'allow check deny diff list pin show verify'; argument = ''; flags = '-h --help'; most = 0 }
    $verbs[' profile allow'] = @{ verbs = ''; argument = 'profile'; flags = '-h --help'; most = 1 }
    $verbs[' profile check'] = @{ verbs = ''; argument = 'profile'; flags = '--python --strict --json -h --help'; most = -1 }
    $verbs[' profile deny'] = @{ verbs = ''; argument = 'profile'; flags = '-h --help'; most = 1 }
    $verbs[' profile diff'] = @{ verbs = ''; argument = 'profile'; flags = '-h --help'; most = -1 }
    $verbs[' profile list'] = @{ verbs = ''; argument = ''; flags = '--json -h --help'; most = 0 }
    $verbs[' profile pin'] = @{ verbs = ''; argument = 'profile'; flags = '--in --vllm --force --python -h --help'; most = -1 }
    $verbs[' profile show'] = @{ verbs = ''; argument = 'profile'; flags = '--json -h --help'; most = 1 }
    $verbs[' profile verify'] = @{ verbs = ''; argument = ''; flags = '--outdated --python --strict --json --format -h --help'; most = 0 }
    $verbs[' report'] = @{ verbs = ''; argument = 'run'; flags = '-f --format -o --output --json -h --help'; most = 1 }
    $verbs[' run'] = @{ verbs = ''; argument = 'command'; flags = '-p --profile -e --env --unset --keep --preflight --ignore --trust --main-guard --exec --no-watch --allow-daemon --deadline --stall --stall-after --python --json --on-ready --progress --quiet-child -n --dry-run -q --quiet -v --verbose -h --help'; most = -1 }
    $verbs[' runs'] = @{ verbs = 'clean list show'; argument = ''; flags = '-h --help'; most = 0 }
    $verbs[' runs clean'] = @{ verbs = ''; argument = ''; flags = '--records --json -h --help'; most = 0 }
    $verbs[' runs list'] = @{ verbs = ''; argument = ''; flags = '--json -h --help'; most = 0 }
    $verbs[' runs show'] = @{ verbs = ''; argument = 'run'; flags = '--json -h --help'; most = 1 }
    $verbs[' -'] = @{ verbs = ''; argument = '=--'; flags = '-p --profile -e --env --unset --keep --preflight --ignore --trust --main-guard --exec --no-watch --allow-daemon --deadline --stall --stall-after --python --json --on-ready --progress --quiet-child -n --dry-run -q --quiet -v --verbose -h --help --version'; most = -1 }

    $flags = [hashtable]::new([StringComparer]::Ordinal)
    $flags[' -p'] = 'profile'
    $flags[' --profile'] = 'profile'
    $flags[' -e'] = 'variable'
    $flags[' --env'] = 'variable'
    $flags[' --unset'] = 'variable'
    $flags[' --keep'] = 'variable'
    $flags[' --preflight'] = '=off quick full'
    $flags[' --ignore'] = 'finding'
    $flags[' --trust'] = 'free'
    $flags[' --main-guard'] = '=auto definitions cutoff off'
    $flags[' --deadline'] = 'free'
    $flags[' --stall'] = '=report kill off'
    $flags[' --stall-after'] = 'free'
    $flags[' --python'] = 'file'
    $flags[' --json'] = 'file'
    $flags[' --on-ready'] = 'free'
    $flags[' check --format'] = '=text json github sarif'
    $flags[' doctor --only'] = 'check'
    $flags[' doctor --skip'] = 'check'
    $flags[' doctor --ignore'] = 'finding'
    $flags[' doctor -p'] = 'profile'
    $flags[' doctor --profile'] = 'profile'
    $flags[' doctor -e'] = 'variable'
    $flags[' doctor --env'] = 'variable'
    $flags[' doctor --unset'] = 'variable'
    $flags[' doctor --trust'] = 'free'
    $flags[' doctor --python'] = 'file'
    $flags[' doctor --format'] = '=text json nagios github junit'
    $flags[' env activate -e'] = 'variable'
    $flags[' env activate --env'] = 'variable'
    $flags[' env activate --unset'] = 'variable'
    $flags[' env activate --trust'] = 'free'
    $flags[' env activate --python'] = 'file'
    $flags[' env activate --shell'] = '=bash zsh sh fish powershell'
    $flags[' env audit --pid'] = 'free'
    $flags[' env audit --file'] = 'file'
    $flags[' env audit --python'] = 'file'
    $flags[' env clean --shell'] = '=bash zsh sh fish powershell'
    $flags[' env deactivate --shell'] = '=bash zsh sh fish powershell'
    $flags[' env diff -p'] = 'profile'
    $flags[' env diff --profile'] = 'profile'
    $flags[' env diff -e'] = 'variable'
    $flags[' env diff --env'] = 'variable'
    $flags[' env diff --unset'] = 'variable'
    $flags[' env diff --trust'] = 'free'
    $flags[' env diff --python'] = 'file'
    $flags[' env diff --shell'] = '=json dotenv docker k8s slurm bash zsh sh fish powershell'
    $flags[' profile check --python'] = 'file'
    $flags[' profile pin --in'] = '=.vllm-guard profiles'
    $flags[' profile pin --vllm'] = 'free'
    $flags[' profile pin --python'] = 'file'
    $flags[' profile verify --python'] = 'file'
    $flags[' profile verify --format'] = '=text json github'
    $flags[' report -f'] = '=markdown json html'
    $flags[' report --format'] = '=markdown json html'
    $flags[' report -o'] = 'file'
    $flags[' report --output'] = 'file'
    $flags[' run -p'] = 'profile'
    $flags[' run --profile'] = 'profile'
    $flags[' run -e'] = 'variable'
    $flags[' run --env'] = 'variable'
    $flags[' run --unset'] = 'variable'
    $flags[' run --keep'] = 'variable'
    $flags[' run --preflight'] = '=off quick full'
    $flags[' run --ignore'] = 'finding'
    $flags[' run --trust'] = 'free'
    $flags[' run --main-guard'] = '=auto definitions cutoff off'
    $flags[' run --deadline'] = 'free'
    $flags[' run --stall'] = '=report kill off'
    $flags[' run --stall-after'] = 'free'
    $flags[' run --python'] = 'file'
    $flags[' run --json'] = 'file'
    $flags[' run --on-ready'] = 'free'
    $flags[' - -p'] = 'profile'
    $flags[' - --profile'] = 'profile'
    $flags[' - -e'] = 'variable'
    $flags[' - --env'] = 'variable'
    $flags[' - --unset'] = 'variable'
    $flags[' - --keep'] = 'variable'
    $flags[' - --preflight'] = '=off quick full'
    $flags[' - --ignore'] = 'finding'
    $flags[' - --trust'] = 'free'
    $flags[' - --main-guard'] = '=auto definitions cutoff off'
    $flags[' - --deadline'] = 'free'
    $flags[' - --stall'] = '=report kill off'
    $flags[' - --stall-after'] = 'free'
    $flags[' - --python'] = 'file'
    $flags[' - --json'] = 'file'
    $flags[' - --on-ready'] = 'free'

    $named = [hashtable]::new([StringComparer]::Ordinal)
    $named['profile'] = @('clean', 'debug', 'dummy-weights', 'eager', 'nccl', 'network', 'p2p-off', 'single-process', 'stats', 'trace', 'vllm-sampling')
    $named['finding'] = @('active-in-shell', 'allocator-conflict', 'api-key-on-command-line', 'c-compiler', 'cache-clock', 'cgroup-memory', 'cgroup-pids', 'cold-compile', 'collective-gpus', 'collective-meet', 'collective-others', 'collective-reach', 'collective-settings', 'collective-slurm', 'collective-versions', 'collective-world', 'command-not-executable', 'command-not-found', 'command-shell', 'config-file', 'containment', 'cuda-before-fork', 'dead-run', 'debug-left-on', 'disk-space', 'engine-option-added', 'engine-option-default', 'engine-option-kept', 'engine-option-type', 'engine-option-unknown', 'engine-options-apart', 'engine-options-not-applied', 'flag-file', 'flag-unknown', 'flag-value', 'flags', 'generation-config', 'glibc', 'gloo-interface', 'gpu-architecture', 'gpu-compute-mode', 'gpu-count', 'gpu-ecc', 'gpu-memory', 'gpu-mig', 'gpu-order', 'gpu-p2p', 'gpu-p2p-cache', 'gpu-slowed', 'gpu-unknown', 'gpu-xid', 'gpus', 'host-ip', 'host-memory', 'host-not-here', 'host-oom-kill', 'hub-answers', 'hub-gated', 'hub-model', 'hub-revision', 'hub-token', 'inside-run', 'interpreter-unusable', 'jit-tools', 'kv-cache-dtype', 'left-behind', 'loopback', 'main-guard-marker', 'main-guard-missing', 'main-guard-not-applied', 'main-guard-not-needed', 'master-address', 'master-port', 'memlock', 'model-blocks', 'model-cached', 'model-chat-template', 'model-complete', 'model-config', 'model-dtype', 'model-experts', 'model-filesystem', 'model-heads', 'model-intermediate', 'model-length', 'model-memory', 'model-not-cached', 'model-path', 'model-quantization', 'model-read-rate', 'model-supported', 'model-tokenizer', 'model-unfinished', 'nccl-interface', 'network-picks', 'nodes', 'nofile', 'notebook', 'notebook-functions', 'p2p-half-off', 'package-mismatch', 'packages', 'pin-drift', 'pin-guard-older', 'pin-invalid', 'pin-missing', 'pin-outdated', 'pin-unknown-key', 'pin-unlocked', 'port-busy', 'port-free', 'port-invalid', 'port-privileged', 'port-shared', 'port-unknown', 'probe-unknown', 'profile-invalid', 'profile-valid', 'profile-version', 'prompts-in-log', 'proxy-local', 'ptrace-scope', 'ptxas', 'python-headers', 'ray-not-copied', 'ray-own', 'rdma', 'repository-defaults', 'repository-ignore', 'script-missing', 'script-unreadable', 'server-ended', 'service-link', 'shared-memory', 'shell-active', 'shm-missing', 'shm-size', 'shm-stale', 'socket-ifname', 'stall', 'subcommand-unknown', 'torch-build', 'torch-import', 'variable-changed', 'variable-deprecated', 'variable-inert', 'variable-kept', 'variable-name', 'variable-overridden', 'variable-removed', 'variable-required', 'variable-unknown', 'variable-value', 'visible-devices', 'vllm-address', 'vllm-found', 'vllm-metadata', 'vllm-not-found', 'vllm-port', 'vllm-shadowed')
    $named['check'] = @('api-key', 'collective', 'compile', 'config-file', 'dead-runs', 'disk', 'environment', 'flag-files', 'flag-value', 'flags', 'generation-config', 'gpu-health', 'gpu-links', 'gpu-memory', 'gpus', 'host-memory', 'inspect', 'limits', 'load', 'model', 'model-complete', 'model-dtype', 'model-hub', 'model-memory', 'model-quantization', 'model-shape', 'model-split', 'model-storage', 'model-supported', 'network', 'network-picks', 'no-python', 'packages', 'platform', 'port', 'profile-keys', 'rendezvous', 'script', 'shared-memory', 'subcommand', 'toolchain', 'torch', 'torch-build', 'vllm-install')
    $named['log'] = @('active-in-shell', 'address-in-use', 'address-not-local', 'allocator-conflict', 'allreduce-peer-access', 'api-key-on-command-line', 'architecture-dropped', 'architecture-not-inspected', 'architecture-null', 'architecture-plugin', 'architecture-unsupported', 'argument-json-refused', 'argument-not-a-choice', 'argument-not-json', 'argument-refused', 'argument-without-value', 'arguments-missing', 'arguments-unrecognised', 'attention-backend-invalid', 'attention-backend-none', 'batched-tokens-below-length', 'batched-tokens-below-seqs', 'bfloat16-unsupported', 'bind-permission', 'block-size-unsupported', 'breakpoint-in-worker', 'broadcast-wait', 'buffers-modified', 'c-compiler', 'c-compiler-missing', 'c-headers-missing', 'cache-clock', 'cache-permission', 'capture-disabled', 'capture-invalidated', 'capture-not-permitted', 'capture-out-of-memory', 'certificate-missing', 'cgroup-memory', 'cgroup-pids', 'chat-template-broken', 'chat-template-file', 'chat-template-missing', 'chat-template-refuses', 'chat-template-slow', 'child-died', 'cold-compile', 'collective-gpus', 'collective-meet', 'collective-others', 'collective-reach', 'collective-settings', 'collective-slurm', 'collective-versions', 'collective-world', 'command-not-executable', 'command-not-found', 'command-shell', 'compile-backend-failed', 'compile-cache-broken', 'compile-not-serializable', 'compiler-command-failed', 'config-file', 'config-file-refused', 'config-missing', 'config-not-json', 'configuration-key-unknown', 'configuration-refused', 'configuration-type', 'connector-expandable-segments', 'container-cli-failed', 'containment', 'context-parallel-heads', 'cpu-kv-cache-too-large', 'cpu-memory-taken', 'crash-segfault', 'crashed-last-line', 'cublas-no-memory', 'cuda-802', 'cuda-803', 'cuda-804', 'cuda-before-fork', 'cuda-device-count', 'cuda-headers-missing', 'cuda-home-colon', 'cuda-home-unset', 'cuda-in-forked-process', 'cuda-library-missing', 'cuda-out-of-memory', 'cudagraph-mode-unsupported', 'cudagraph-sizes-contradict', 'custom-allreduce-off', 'custom-op-missing', 'cxx-compiler-missing', 'dead-run', 'debug-left-on', 'device-assert', 'device-list-short', 'device-not-inferred', 'disk-read-error', 'disk-space', 'disk-too-small', 'docker-no-gpu-driver', 'download-broken', 'dp-config-differs', 'dp-coordinator', 'dp-handshake', 'dp-headless', 'driver-insufficient', 'driver-too-old', 'dtype-unknown', 'dynamo-constraint', 'dynamo-runtime-error', 'dynamo-unsupported', 'engine-core-died', 'engine-core-failed', 'engine-core-traceback', 'engine-dead', 'engine-option-added', 'engine-option-default', 'engine-option-kept', 'engine-option-type', 'engine-option-unknown', 'engine-options-apart', 'engine-options-not-applied', 'engine-process-failed', 'engine-ready-timeout', 'engine-start-local', 'engine-start-pending', 'engine-stopped-with-server', 'entrypoint-missing', 'entrypoint-not-executable', 'exec-format', 'executor-unsupported', 'external-launcher-gloo', 'feature-unsupported', 'few-open-files', 'file-not-on-hub', 'flag-file', 'flag-unknown', 'flag-value', 'flags', 'flash-attention-gpu', 'flashinfer-architecture', 'flashinfer-build-failed', 'flashinfer-workspace', 'float16-unsupported', 'fp8-block-shape', 'fp8-triton-ampere', 'frontend-failed', 'gated-model', 'generation-config', 'glibc', 'glibc-too-old', 'gloo-interface', 'gloo-interface-missing', 'gloo-loopback', 'gloo-mesh', 'gloo-no-device', 'gpu-architecture', 'gpu-architecture-missing', 'gpu-architecture-warning', 'gpu-busy', 'gpu-compute-mode', 'gpu-count', 'gpu-ecc', 'gpu-ecc-error', 'gpu-memory', 'gpu-memory-external-weights', 'gpu-memory-taken', 'gpu-mig', 'gpu-order', 'gpu-out-of-memory', 'gpu-p2p', 'gpu-p2p-cache', 'gpu-slowed', 'gpu-unknown', 'gpu-xid', 'gpu-xid-follows', 'gpu-xid-gsp', 'gpu-xid-line', 'gpu-xid-lost', 'gpu-xid-memory', 'gpu-xid-nvlink', 'gpu-xid-program', 'gpu-xid-remapped', 'gpus', 'graph-replay-error', 'gunicorn-worker-timeout', 'headless-contradiction', 'heads-not-divisible', 'heap-corrupted', 'hf-transfer-failed', 'hf-transfer-missing', 'host-ip', 'host-ip-ignored', 'host-ip-unknown', 'host-memory', 'host-not-here', 'host-oom-kill', 'host-out-of-memory', 'hub-answers', 'hub-certificate', 'hub-gated', 'hub-model', 'hub-name-resolution', 'hub-rate-limit', 'hub-retry', 'hub-revision', 'hub-token', 'hub-unreachable', 'illegal-memory-access', 'inductor-error', 'inside-run', 'interpreter-unusable', 'invalid-device-ordinal', 'invalid-http-request', 'jit-out-of-memory', 'jit-tools', 'kernel-assertion', 'keyboard-interrupt', 'killed', 'killed-by-sigabrt', 'killed-by-sigill', 'killed-by-sigsegv', 'killed-last-line', 'killed-line', 'kv-allocation-out-of-memory', 'kv-cache-auto-fit', 'kv-cache-dtype', 'kv-cache-none', 'kv-cache-too-small', 'kv-cache-too-small-v0', 'kv-heads-not-divisible', 'launch-failure', 'layer-size-not-divisible', 'leaked-shared-memory', 'left-behind', 'libcuda-not-found', 'libcuda-not-linked', 'libstdcxx-too-old', 'linear-kernel-none', 'load-out-of-memory', 'log-level', 'logging-config', 'loopback', 'lora-empty', 'lora-model', 'lora-modules', 'lora-not-enabled', 'lora-not-found', 'lora-rank', 'lora-weight', 'main-guard-marker', 'main-guard-missing', 'main-guard-not-applied', 'main-guard-not-needed', 'mamba-cache-too-small', 'marlin-shape', 'master-address', 'master-port', 'max-model-len-too-long', 'memlock', 'memory-profiling-disturbed', 'metadata-missing', 'method-failed-on-worker', 'misaligned-address', 'mm-item-too-large', 'mm-limit', 'mm-local-files', 'mm-media-path', 'mm-placeholders', 'mm-processor', 'mmap-failed', 'model-blocks', 'model-cached', 'model-chat-template', 'model-complete', 'model-config', 'model-dtype', 'model-experts', 'model-filesystem', 'model-heads', 'model-intermediate', 'model-is-a-file', 'model-length', 'model-memory', 'model-name', 'model-not-cached', 'model-not-given', 'model-not-on-hub', 'model-packages-missing', 'model-path', 'model-path-missing', 'model-quantization', 'model-read-rate', 'model-runner-unsupported', 'model-supported', 'model-tokenizer', 'model-type-missing', 'model-type-unknown', 'model-unfinished', 'modelscope-missing', 'nan-logits', 'nanobind-leak', 'nccl-connect', 'nccl-cuda-error', 'nccl-duplicate-gpu', 'nccl-ib-completion', 'nccl-interface', 'nccl-invalid-usage', 'nccl-library', 'nccl-memlock', 'nccl-no-interface', 'nccl-peer-access', 'nccl-setting', 'nccl-shm-full', 'nccl-shm-not-shared', 'nccl-system-error', 'nccl-timeout', 'nccl-versions-differ', 'network-picks', 'ninja-missing', 'no-driver', 'no-gpu', 'no-loopback', 'no-space', 'nodes', 'nofile', 'notebook', 'notebook-functions', 'numactl-missing', 'nvcc-architecture', 'nvcc-gcc-too-new', 'nvcc-missing', 'nvml-mismatch', 'nvml-unknown', 'object-storage-load-format', 'offline-not-cached', 'oom-killer', 'output-handler-failed', 'p2p-half-off', 'p2p-test-failed', 'package-mismatch', 'packages', 'parser-tokenizer', 'peer-gone', 'pickle-refused', 'piecewise-graphs-unavailable', 'pin-drift', 'pin-guard-older', 'pin-invalid', 'pin-missing', 'pin-outdated', 'pin-unknown-key', 'pin-unlocked', 'pipeline-unsupported', 'platform-plugins', 'platform-unspecified', 'pod-crash-loop', 'pod-evicted', 'pod-image-pull', 'pod-no-gpu', 'pod-oom-killed', 'pooler-out-of-memory', 'port-busy', 'port-free', 'port-invalid', 'port-out-of-range', 'port-privileged', 'port-shared', 'port-unknown', 'probe-unknown', 'process-group-not-destroyed', 'process-limit', 'processor-not-loaded', 'profile-invalid', 'profile-out-of-memory', 'profile-valid', 'profile-version', 'prompt-too-long', 'prompts-in-log', 'proxy-local', 'ptrace-scope', 'ptx-toolchain', 'ptxas', 'ptxas-architecture', 'ptxas-failed', 'python-headers', 'python-headers-missing', 'quantization-capability', 'quantization-config-missing', 'quantization-contradicts-model', 'quantization-dtype', 'quantization-platform', 'quantization-scheme-capability', 'quantization-unknown', 'quantized-shape', 'ray-actor-died', 'ray-missing', 'ray-no-cluster', 'ray-no-gpu-here', 'ray-no-placement', 'ray-not-copied', 'ray-object-store-full', 'ray-out-of-memory', 'ray-own', 'ray-placement-waits', 'ray-same-address', 'ray-versions-differ', 'raylet-died', 'rdma', 'read-only-disk', 'reasoning-parser-unknown', 'rendezvous-incomplete', 'rendezvous-port-busy', 'rendezvous-timeout', 'repository-defaults', 'repository-disabled', 'repository-ignore', 'revision-unknown', 'rpc-timeout', 'runner-unsupported', 'rust-frontend-missing', 'safetensors-cut-off', 'safetensors-not-one', 'sampler-out-of-memory', 'script-missing', 'script-unreadable', 'server-ended', 'service-link', 'serving-out-of-memory', 'shard-missing', 'sharded-state-missing', 'shared-memory', 'shell-aborted', 'shell-active', 'shell-illegal-instruction', 'shm-bus-error', 'shm-bus-error-reported', 'shm-full', 'shm-missing', 'shm-read-only', 'shm-size', 'shm-stale', 'shm-too-small', 'size-not-divisible', 'sleep-mode-unsupported', 'slurm-node-failure', 'slurm-out-of-memory', 'slurm-preempted', 'slurm-time-limit', 'socket-ifname', 'spawn-forced', 'speculative-tokens-missing', 'speculative-tokens-too-many', 'stale-file-handle', 'stall', 'stopped-while-starting', 'subcommand-unknown', 'swap-space-too-large', 'systemd-dumped', 'systemd-killed', 'systemd-oom', 'systemd-start-limit', 'systemd-timeout', 'token-invalid', 'tokenizer-class-unknown', 'tokenizer-library-missing', 'tokenizer-not-json', 'tokenizer-not-loaded', 'too-many-open-files', 'tool-choice-flags', 'tool-parser-not-given', 'tool-parser-unknown', 'torch-build', 'torch-import', 'torch-not-installed', 'torch-shm', 'torch-without-cuda', 'torchrun-child-failed', 'torchvision-mismatch', 'transformers-incompatible', 'triton-mismatch', 'triton-out-of-resource', 'trust-remote-code', 'undefined-symbol', 'unguarded-script', 'variable-changed', 'variable-choice', 'variable-deprecated', 'variable-inert', 'variable-kept', 'variable-name', 'variable-not-a-number', 'variable-not-known', 'variable-overridden', 'variable-refused', 'variable-removed', 'variable-required', 'variable-unknown', 'variable-value', 'visible-devices', 'visible-devices-contradict', 'vllm-address', 'vllm-c-missing', 'vllm-c-not-imported', 'vllm-command-not-found', 'vllm-found', 'vllm-metadata', 'vllm-module-missing', 'vllm-not-found', 'vllm-not-installed', 'vllm-port', 'vllm-port-uri', 'vllm-port-value', 'vllm-shadowed', 'wake-up-out-of-memory', 'weight-key', 'weight-name', 'weight-shape', 'weights-missing', 'weights-not-initialized', 'worker-died', 'worker-error-relayed', 'worker-init-failed', 'worker-process-died', 'worker-stopped-cleanly', 'worker-traceback', 'world-too-large', 'xet-failed')

    function Get-Names($folders, $end) {
        Get-ChildItem -LiteralPath $folders -Name -ErrorAction Ignore |
            Where-Object { $_.EndsWith($end) -and $_ -notmatch '^\.|\p{C}' } |
            ForEach-Object { $_.Substring(0, $_.Length - $end.Length) }
    }

    function Get-Base($given, $default) {
        if ($given -and $given.StartsWith('/')) { $given } else { "$HOME/$default" }
    }

    function Get-Profiles {
        $folders = @("$(Get-Base $env:XDG_CONFIG_HOME '.config')/vllm-guard/profiles")
        $folder = (Get-Location -PSProvider FileSystem).ProviderPath
        $root = $false
        while ($folder -and -not $root) {
            $root = Test-Path -LiteralPath "$folder/.git"
            if ($folder -ceq $HOME -and -not $root) { break }
            $folders += "$folder/profiles", "$folder/.vllm-guard"
            $folder = $folder -replace '/[^/]*$'
        }
        $named.profile
        Get-Names $folders '.toml'
    }

    function Get-Runs {
        Get-Names @("$(Get-Base $env:XDG_STATE_HOME '.local/state')/vllm-guard/runs") ''
    }

    function Get-Values($kind) {
        if ($kind.StartsWith('=')) { return $kind.Substring(1).Split(' ') }
        switch ($kind) {
            'profile' { Get-Profiles }
            'run' { Get-Runs }
            'log' { $named.log; Get-Runs }
            'variable' { (Get-ChildItem Env:).Name }
            default { if ($named.ContainsKey($kind)) { $named[$kind] } }
        }
    }

    # What the command completes by itself, from the word at that place on.
    function Get-OfCommand($words) {
        $start = if ($words) { $words[0].Extent.StartOffset } else { $cursorPosition }
        $text = $commandAst.Extent.Text
        $begin = $start - $commandAst.Extent.StartOffset
        $line = if ($begin -lt $text.Length) { $text.Substring($begin) } else { '' }
        $line = $line.PadRight($cursorPosition - $start)
        [System.Management.Automation.CommandCompletion]::CompleteInput(
            $line, $cursorPosition - $start, $null).CompletionMatches
    }

    $elements = @($commandAst.CommandElements | Select-Object -Skip 1)
    $before = @($elements | Where-Object { $_.Extent.EndOffset -lt $cursorPosition })
    $verb = ''
    $kind = ''
    $given = 0
    for ($i = 0; $i -lt $before.Count; $i++) {
        $word = $before[$i].Extent.Text
        $command = $verbs[$verb].argument -ceq 'command'
        if ($kind) { $kind = '' }
        elseif ($word -ceq '--' -and ($command -or $verb -in '', ' -')) {
            return Get-OfCommand @($elements | Select-Object -Skip ($i + 1))
        }
        elseif ($word.StartsWith('-')) {
            if (-not $verb) { $verb = ' -' }
            $kind = "$($flags["$verb $word"])"
        }
        elseif ($verbs.ContainsKey("$verb $word")) { $verb = "$verb $word" }
        elseif ($command) { return Get-OfCommand @($elements | Select-Object -Skip $i) }
        else { $given++ }
    }

    $here = $verbs[$verb]
    $offered = if ($kind) { Get-Values $kind }
    elseif ("$wordToComplete".StartsWith('-')) { $here.flags.Split(' ') }
    elseif ($here.verbs) { $here.verbs.Split(' ') }
    elseif ($here.argument -ceq 'command') { return Get-OfCommand @($elements | Select-Object -Skip $before.Count) }
    elseif ($here.most -lt 0 -or $given -lt $here.most) { Get-Values $here.argument }

    $offered | Where-Object { $_ -and $_.StartsWith("$wordToComplete", 'Ordinal') } | Sort-Object -Unique |
        ForEach-Object {
            $text = if ($_ -match '^[\w.:/-]+$') { $_ } else { "'" + $_.Replace("'", "''") + "'" }
            [System.Management.Automation.CompletionResult]::new($text, $_, 'ParameterValue', $_)
        }
}
