#!/bin/sh
# Fetches the proxies that pgproxy is compared with, in their newest packaged versions, into a
# folder of their own: a small Debian system of a newer suite, from which the benchmark runs each
# peer by chroot, beside the machine's own software and without touching it.
#
#   sudo benchmarks/peers/setup.sh            set up, or say what is there already
#   sudo benchmarks/peers/setup.sh --upgrade  bring the folder up to the suite's present versions
#   sudo benchmarks/peers/setup.sh --remove   delete the folder
#
# Needs root on a Debian (or a derivative with MIRROR set). Environment, all optional:
#   PGPROXY_BENCH_PEERS  the folder            (default: $XDG_CACHE_HOME or /var/cache, then
#                                               pgproxy-bench/peers)
#   SUITE                the Debian suite      (default: testing)
#   MIRROR               the package mirror    (default: the one apt is configured with)
set -eu

peers="pgbouncer pgpool2 odyssey haproxy"
suite=${SUITE:-testing}
root=${PGPROXY_BENCH_PEERS:-${XDG_CACHE_HOME:-/var/cache}/pgproxy-bench/peers}

say() { printf '%s\n' "$*" >&2; }
die() { say "setup.sh: $*"; exit 1; }

# The first URI apt has for Debian itself (not its security or backports archives).
configured_mirror() {
    apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(REPO_URI)' 'Created-By: Packages' \
        | sed -n 's/^Debian|Debian|//p' | head -n 1
}

# debootstrap's wget knows nothing of apt's proxy setting.
export_apt_proxy() {
    proxy=$(apt-config shell p Acquire::http::Proxy | sed -n "s/^p='\(.*\)'$/\1/p")
    [ -z "$proxy" ] || [ "$proxy" = DIRECT ] || export http_proxy="${http_proxy:-$proxy}"
}

in_root() { DEBIAN_FRONTEND=noninteractive LC_ALL=C chroot "$root" "$@"; }

report() {
    missing=""
    for peer in $peers; do
        version=$(in_root dpkg-query -W -f '${Version}' "$peer" 2>/dev/null) || version=""
        if [ -n "$version" ]; then say "  $peer $version"; else missing="$missing $peer"; fi
    done
    [ -z "$missing" ] || say "  MISSING:$missing (the benchmark will name them as not measured)"
}

# No service may start inside the folder, and none of its packages needs one.
forbid_services() {
    printf '#!/bin/sh\nexit 101\n' > "$1/usr/sbin/policy-rc.d"
    chmod 755 "$1/usr/sbin/policy-rc.d"
}

bootstrap() {
    command -v debootstrap > /dev/null || {
        apt-get update -qq
        apt-get install -y -qq --no-install-recommends debootstrap
    }
    mirror=${MIRROR:-$(configured_mirror)}
    [ -n "$mirror" ] || { apt-get update -qq; mirror=$(configured_mirror); }
    [ -n "$mirror" ] || die "apt names no Debian mirror; set MIRROR"
    script=/usr/share/debootstrap/scripts/$suite
    [ -e "$script" ] || script=/usr/share/debootstrap/scripts/sid # a suite newer than debootstrap
    partial=$root.partial
    rm -rf --one-file-system "$partial"
    mkdir -p "$partial"
    trap 'umount "$partial/proc" 2>/dev/null || true' EXIT
    say "debootstrap of $suite into $root (a few minutes) ..."
    debootstrap --variant=minbase "$suite" "$partial" "$mirror" "$script" \
        > "$root.log" 2>&1 || die "debootstrap failed, see $root.log"
    umount "$partial/proc" 2>/dev/null || true
    forbid_services "$partial"
    mv "$partial" "$root"
}

install_peers() {
    cp -L /etc/resolv.conf "$root/etc/resolv.conf" 2>/dev/null || true
    mkdir -p "$root/proc"
    mount -t proc proc "$root/proc"
    trap 'umount "$root/proc" 2>/dev/null || true' EXIT
    # Signatures are checked all the same; an expired index (a mirror that is frozen or late, a
    # clock that is ahead) is no reason to do without the peers.
    in_root apt-get -o Acquire::Check-Valid-Until=false update -qq >> "$root.log" 2>&1 || die "apt-get update failed, see $root.log"
    for peer in $peers; do # one by one: a peer that the suite lacks must not cost us the others
        in_root apt-get install -y -qq --no-install-recommends "$peer" >> "$root.log" 2>&1 \
            || say "$peer could not be installed, see $root.log"
    done
    in_root apt-get clean
    umount "$root/proc"
    trap - EXIT
}

[ "$(id -u)" = 0 ] || die "needs root (debootstrap and chroot do)"
command -v apt-get > /dev/null || die "needs a Debian or a derivative"
export_apt_proxy

case ${1:-} in
    --remove)
        rm -rf --one-file-system "$root" "$root.partial" "$root.log" "$root.installed"
        say "removed $root"
        exit 0
        ;;
    "" | --upgrade) ;;
    *) die "unknown option $1 (see the head of this file)" ;;
esac

installed=$root.installed # written last, so that a run that was cut off is taken up again
[ "${1:-}" != --upgrade ] || rm -f "$installed"
if [ ! -d "$root/usr" ]; then
    mkdir -p "$(dirname "$root")"
    bootstrap
fi
if [ ! -e "$installed" ]; then
    install_peers
    touch "$installed"
fi
say "peers in $root:"
report
