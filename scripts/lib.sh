# Functions that the scripts of this folder share; sourced, needs bash.

say()
{
    printf '%s: %s\n' "${0##*/}" "$*" >&2
}

# packages_missing PACKAGE...: prints those that are not installed.
packages_missing()
{
    local p
    for p in "$@"; do
        [ "$(dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || echo "$p"
    done
}

# as_root COMMAND...: runs it as root, by sudo when we are not; sudo may ask only on a terminal.
as_root()
{
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif [ -t 0 ]; then
        sudo "$@"
    else
        sudo -n "$@"
    fi
}

# packages_install PACKAGE...: installs the missing ones and says which.
# `apt-get update` is tried twice: a mirror in the middle of its own update refuses the first.
packages_install()
{
    local missing
    missing=$(packages_missing "$@" | sort -u | tr '\n' ' ')
    [ -n "$missing" ] || return 0
    if ! command -v apt-get >/dev/null; then
        say "no apt-get here; install what corresponds to: $missing"
        return 1
    fi
    if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
        say "neither root nor sudo; as root run: apt-get install $missing"
        return 1
    fi
    say "installing with apt-get: $missing"
    as_root apt-get update -q >&2 || { sleep 5; as_root apt-get update -q >&2; } || {
        say "apt-get update failed twice; check the network and /etc/apt/sources.list*"
        return 1
    }
    # shellcheck disable=SC2086  # one word per package
    as_root "${BASH_SOURCE[0]%/*}/apt-install" $missing >&2
}

# build_tree DIR TARGET -D...: configures and builds; TARGET `all` is everything.
# Ninja when it is there for a new tree; an existing tree keeps its generator.
build_tree()
{
    local dir=$1 target=$2 generator=()
    shift 2
    if [ ! -f "$dir/CMakeCache.txt" ] && command -v ninja >/dev/null; then
        generator=(-G Ninja)
    fi
    mkdir -p "$dir"
    if ! { cmake -S . -B "$dir" "${generator[@]}" "$@" &&
        cmake --build "$dir" --target "$target" -j "$(nproc)"; } >"$dir/build.log" 2>&1; then
        grep -E -A6 'FAILED|error|warning:|Error' "$dir/build.log" | head -60 >&2
        say "the build in $dir failed; all of it is in $dir/build.log"
        return 1
    fi
}
