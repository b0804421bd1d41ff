# Debian packages by purpose, for scripts/quickstart and scripts/test; sourced, needs bash.
# Only names that Debian 12 and Debian 13 both have.

# To build celeriac.
packages_build=(
    gcc libc6-dev cmake ninja-build pkg-config
    libhiredis-dev librabbitmq-dev libjansson-dev libsqlite3-dev libevent-dev
    zlib1g-dev libxxhash-dev nettle-dev libssl-dev libcurl4-openssl-dev
)

# To run the main job beside what the build brought.
packages_run=(python3)

# To run every test: servers, peers, checkers, the fuzzer's compiler.
packages_test=(
    g++ libcmocka-dev
    python3 python3-celery python3-redis redis-server redis-tools rabbitmq-server
    valgrind libc6-dbg strace
    clang libclang-rt-dev
)

# For the analyze preset, which scripts/test --soak builds too.
packages_analyze=(clang-tidy cppcheck)
