#!/bin/sh
# Makes a small root file system with Debian's nginx, the service of the appliance tests and of the demonstration:
#
#   tests/appliance/make-web-root.sh FOLDER PACKAGES
#
# A root by debootstrap has 227 MB and takes minutes. Of nginx's packages only the program and the libraries that it asks
# for are taken, 10 MB, and Debian's static busybox for the service's check. PACKAGES keeps what was fetched.
set -eu

root=$1 packages=$2
die() {
    echo "make-web-root.sh: $*" >&2
    exit 1
}

# Everything that nginx may load is in a package that it depends on, at whatever depth.
names=$(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances \
    nginx | grep -E '^(lib|zlib)' | grep -v ':i386' | sort -u)
[ -n "$names" ] || die "nginx is not known here: try apt-get update"
if [ ! -e "$packages/.complete" ]; then
    rm -rf "$packages"
    mkdir -p "$packages/debs"
    # shellcheck disable=SC2086 # names are words
    (cd "$packages/debs" && apt-get download -qq nginx busybox-static $names >&2) || die "the packages cannot be fetched"
    for deb in "$packages"/debs/*.deb; do
        dpkg -x "$deb" "$packages/all"
    done
    rm -r "$packages/debs"
    touch "$packages/.complete"
fi
all=$packages/all

rm -rf "$root"
mkdir -p "$root/bin" "$root/dev" "$root/etc" "$root/lib64" "$root/proc" "$root/run" "$root/tmp" "$root/usr/lib" \
    "$root/usr/sbin" "$root/var/lib/nginx" "$root/var/log" "$root/var/www"
cp "$all/usr/sbin/nginx" "$root/usr/sbin/"
cp "$all/bin/busybox" "$root/bin/" 2>/dev/null || cp "$all/usr/bin/busybox" "$root/bin/"

needed() {
    objdump -p "$1" | sed -n 's/^ *NEEDED *//p'
}

# Every library once, and those that it needs itself.
wanted=$(needed "$root/usr/sbin/nginx")
while [ -n "$wanted" ]; do
    next=
    for library in $wanted; do
        case $library in ld-linux*) place=$root/lib64 ;; *) place=$root/usr/lib ;; esac
        [ ! -e "$place/$library" ] || continue
        found=$(find "$all" -name "$library" ! -path '*/i386-linux-gnu/*' | head -n 1)
        [ -n "$found" ] || die "no package has $library"
        cp -L "$found" "$place/$library"
        next="$next $(needed "$place/$library")"
    done
    wanted=$next
done

echo 'root:x:0:0:root:/:/bin/sh
www-data:x:33:33:www-data:/var/www:/bin/false' >"$root/etc/passwd"
echo 'root:x:0:
www-data:x:33:' >"$root/etc/group"
# One worker, no log of every request: a fetch comes ten times a second and the disk is small.
cat >"$root/etc/nginx.conf" <<'CONF'
user www-data;
worker_processes 1;
pid /run/nginx.pid;
error_log stderr;
events { worker_connections 64; }
http {
    access_log off;
    server_tokens off;
    server {
        listen 80;
        root /var/www;
        default_type text/plain;
    }
}
CONF
# A page of some packets, so that a fetch is more than one frame each way.
i=0
while [ $i -lt 100 ]; do
    echo "line $i of the page that the pair serves: exactly one box, and never both"
    i=$((i + 1))
done >"$root/var/www/index.html"
