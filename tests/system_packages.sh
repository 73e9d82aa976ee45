#!/bin/sh
# Install the programs of the system that some tests need, where that may be done; else say which tests are left out.
# `make test` calls it: a test whose programs are missing skips itself and names them. Where LEAVE_OUT=none, as in CI, that fails.
set -u

# What the tests are, the programs they need (looked up with /usr/sbin too), the Debian packages that bring them.
needs() {
    cat <<'LIST'
tests that open the report in a browser|chromium|chromium
tests of compiled kernels|c++|g++
tests on a real Slurm|munged slurmctld slurmd slurmdbd srun sbcast mariadb mariadbd mariadb-install-db unshare|slurm-wlm slurmdbd munge mariadb-server util-linux
tests on a stand-in for PBS|unshare setpriv taskset mount hostname|util-linux mount hostname
LIST
}

missing() { # programs... -> those that are not there
    for program in "$@"; do
        command -v "$program" >/dev/null 2>&1 || printf '%s ' "$program"
    done
}

may_install() {
    command -v apt-get >/dev/null 2>&1 || return 1
    [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

install() { # packages...: without starting the services that they bring, for the tests start their own
    policy=/usr/sbin/policy-rc.d
    [ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null && as_root chmod 755 $policy && ours=1; }
    as_root timeout 120 apt-get update -qq >/dev/null 2>&1
    as_root env DEBIAN_FRONTEND=noninteractive timeout 420 \
        apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 "$@" >/dev/null 2>&1
    [ "${ours:-}" ] && as_root rm -f $policy
}

PATH="$PATH:/usr/sbin:/sbin"
needs | while IFS='|' read -r tests programs packages; do
    # shellcheck disable=SC2086  # lists of words
    [ -z "$(missing $programs)" ] && continue
    # shellcheck disable=SC2086
    may_install && install $packages </dev/null
    # shellcheck disable=SC2086
    left="$(missing $programs)"
    [ -z "$left" ] && continue
    echo "left out: $tests (no ${left% }; packages: $packages)" >&2
    [ "${LEAVE_OUT:-}" != none ] || exit 1
done
