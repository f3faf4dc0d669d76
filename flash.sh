#!/bin/sh
# Makes and writes the appliance's disks. Needs no root and no loop device, except to write a real disk.
#
#   ./flash.sh image --board NAME [--output FILE]            one disk without site, key and node
#   ./flash.sh pair --board NAME --site FILE [--output DIR]  the disks of both boxes, with a fresh key
#   ./flash.sh update --board NAME [--output FILE]           the image alone, for `twobox update` on a running box
#   ./flash.sh write IMAGE DEVICE                            write a disk, read it back, compare
#   ./flash.sh verify IMAGE DEVICE                           compare a disk with its image
#   ./flash.sh demo [--script [FILE|WORDS]]                  both boxes on this machine, under QEMU: faults and what follows
#   ./flash.sh kernel                                        fetch Debian's kernel, say where it is
#
# Options of image, pair and update: --kernel DIR (an unpacked kernel package: boot/vmlinuz-* and lib/modules/* or
# usr/lib/modules/*), --program FILE (the static twobox binary; built when absent). Of image and pair: --data-size MiB
# (default 256), --data DIR (what the data partition holds).
set -eu

here=$(cd "$(dirname "$0")" && pwd)
target=x86_64-unknown-linux-musl
cache=$here/target/appliance
PATH=$PATH:/usr/sbin:/sbin
umask 022

# Sizes in MiB: the first and last MiB of the disk belong to the partition table.
esp_size=64
state_size=16

die() {
    echo "flash.sh: $*" >&2
    exit 1
}

# All that may be said to this script: its first lines.
help() {
    sed -n '2,/^set -eu/{/^#/s/^# \{0,1\}//p}' "$0"
}

# What was wrong, then all that is right.
usage() {
    printf 'flash.sh: %s\n\n' "$*" >&2
    help >&2
    exit 2
}

# "command package" pairs: all that are missing are named at once, before anything is made.
need() {
    missing=
    for pair in "$@"; do
        command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair##*:}"
    done
    [ -z "$missing" ] || die "missing:$missing; as root: apt-get install$missing"
}

# Fetches a Debian package into the cache and unpacks it. Prints nothing.
fetch_package() {
    [ ! -e "$cache/$1/.complete" ] || return 0
    need apt-get:apt dpkg:dpkg
    mkdir -p "$cache"
    # A folder of its own: another flash.sh may fetch the same. Whoever is ready first puts his where it belongs.
    fetched=$(mktemp -d "$cache/$1.XXXXXX")
    echo "fetching Debian's package $1" >&2
    if ! (cd "$fetched" && apt-get download -qq "$1" >&2 2>/dev/null && dpkg -x ./*.deb . && rm ./*.deb); then
        rm -rf "$fetched"
        die "cannot fetch $1: try apt-get update, or give --kernel DIR"
    fi
    touch "$fetched/.complete"
    chmod 755 "$fetched"
    [ -e "$cache/$1/.complete" ] || rm -rf "${cache:?}/$1"
    mv -T "$fetched" "$cache/$1" 2>/dev/null || rm -rf "$fetched"
}

# Sets kernel to the folder of an unpacked kernel, modules and vmlinuz to what is in it.
find_kernel() {
    if [ -z "${kernel:-}" ]; then
        # In another language it calls what a package depends on by other words.
        package=$(LC_ALL=C apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
        [ -n "$package" ] ||
            die "no package linux-image-amd64 is known here: on Debian try apt-get update, elsewhere give --kernel DIR"
        fetch_package "$package"
        kernel=$cache/$package
    fi
    # A package of Debian 13 or later has its modules below usr/; on a machine that runs one, lib is a link to usr/lib.
    modules='' versions=''
    for folder in "$kernel"/lib/modules/*/kernel "$kernel"/usr/lib/modules/*/kernel; do
        folder=${folder%/kernel}
        version=${folder##*/}
        case " $versions " in
            *" $version "*) continue ;;
        esac
        [ ! -d "$folder/kernel" ] || versions="${versions:+$versions }$version" modules=$folder
    done
    [ -n "$modules" ] || die "$kernel: no lib/modules/VERSION/kernel in it, nor usr/lib/modules/VERSION/kernel"
    [ "$versions" = "${modules##*/}" ] || die "$kernel: one kernel, please, not several: $versions"
    vmlinuz=$kernel/boot/vmlinuz-$versions
    [ -f "$vmlinuz" ] || die "$vmlinuz is missing: the kernel to these modules"
}

# Sets boot_loader to the folder of systemd's EFI programs.
find_boot_loader() {
    boot_loader=${TWOBOX_BOOT_LOADER:-}
    if [ -z "$boot_loader" ]; then
        fetch_package systemd-boot-efi
        boot_loader=$cache/systemd-boot-efi/usr/lib/systemd/boot/efi
    fi
    for file in linuxx64.efi.stub systemd-bootx64.efi; do
        [ -f "$boot_loader/$file" ] || die "$boot_loader: no $file in it"
    done
}

# Sets program and packer, building what was not given.
find_program() {
    packer=${TWOBOX_PACKER:-$here/target/$target/release/pack-initramfs}
    if [ -z "${program:-}" ] || [ -z "${TWOBOX_PACKER:-}" ]; then
        need cargo:cargo musl-gcc:musl-tools
        (cd "$here" && cargo build --quiet --release --target "$target" --bins) || die "the program does not build"
    fi
    program=${program:-$here/target/$target/release/twobox}
    [ -x "$program" ] || die "$program: no program"
}

# The first address behind all sections of an EFI program, which begin at the image base that its header tells.
end_of_sections() {
    sections=$(LC_ALL=C objdump -h "$1" | sed -n 's/^ *[0-9][0-9]* [^ ]* *\([0-9a-f]*\) *\([0-9a-f]*\) .*/\2 \1/p')
    echo "$sections" | (
        end=0
        while read -r start length && [ -n "$start" ]; do
            [ $((0x$start + 0x$length)) -le "$end" ] || end=$((0x$start + 0x$length))
        done
        echo "$end"
    )
}

# A unified kernel image: EFI stub, kernel, initramfs and command line in one file (uapi-group.org, UKI).
make_unified_kernel() {
    hash=$(cat "$vmlinuz" "$work/initramfs" "$work/command-line" | sha256sum | cut -c 1-16)
    printf '%s twobox.image=%s' "$(cat "$work/command-line")" "$hash" >"$work/cmdline"
    # The boot loader sorts by version first and by file name then. The version is the same for ever, so that the name's
    # number decides: a step back is an update like any other.
    printf 'ID=twobox\nNAME=Twobox\nPRETTY_NAME="Twobox"\nVERSION_ID=1\nIMAGE_HASH=%s\nIMAGE_BOARD=%s\n' \
        "$hash" "$(cat "$work/board-name")" >"$work/os-release"
    stub=$boot_loader/linuxx64.efi.stub
    # The stub's image base and alignment are other ones in each version of systemd: what is added lies behind what is there.
    # The kernel is the last: of what lies behind it, nothing can be in its way.
    align=$(LC_ALL=C objdump -p "$stub" | sed -n 's/^SectionAlignment[[:space:]]*\([0-9a-f]*\)$/0x\1/p')
    end=$(end_of_sections "$stub")
    if [ -z "$align" ] || [ "$end" = 0 ]; then
        die "$stub: no EFI stub that objdump knows"
    fi
    # Debian 12's stub asks for 512 bytes; the kernel, which is started where it lies, has begun with a page always.
    [ $((align)) -ge 4096 ] || align=4096
    set --
    for part in ".osrel=$work/os-release" ".cmdline=$work/cmdline" ".initrd=$work/initramfs" ".linux=$vmlinuz"; do
        at=$(((end + align - 1) / align * align))
        end=$((at + $(stat -L -c %s "${part#*=}")))
        set -- "$@" --add-section "$part" --change-section-vma "${part%%=*}=$at"
    done
    objcopy "$@" "$stub" "$work/twobox.efi" || die "objcopy cannot make the unified kernel image"
    "$packer" seal "$work/twobox.efi" || die "the image cannot be sealed"
    size=$(stat -c %s "$work/twobox.efi")
    [ $((2 * size)) -le $(((esp_size - 2) << 20)) ] ||
        die "the image has $size bytes: its partition of $esp_size MiB holds no two of them"
}

make_esp() {
    rm -f "$work/esp"
    truncate -s "${esp_size}M" "$work/esp"
    mkfs.vfat -F 32 -n TWOBOX-ESP "$work/esp" >/dev/null
    printf 'timeout 0\neditor no\n' >"$work/loader.conf"
    mmd -i "$work/esp" ::/EFI ::/EFI/BOOT ::/EFI/Linux ::/loader
    mcopy -i "$work/esp" "$boot_loader/systemd-bootx64.efi" ::/EFI/BOOT/BOOTX64.EFI
    mcopy -i "$work/esp" "$work/loader.conf" ::/loader/loader.conf
    # Twice: the first one boots if the second one, which is the newest, is found to be damaged.
    for slot in 1 2; do
        mcopy -i "$work/esp" "$work/twobox.efi" "::/EFI/Linux/twobox-$slot.efi"
    done
}

# make_state FILE NODE: NODE is a, b or nothing. Owners are set by debugfs, because whoever runs this may not be root.
make_state() {
    rm -f "$1"
    truncate -s "${state_size}M" "$1"
    mkfs.ext4 -q -L twobox-state -E root_owner=0:0 -m 0 "$1"
    [ -n "$2" ] || return 0
    echo "$2" >"$work/node-name"
    {
        for file in node-name site.toml pair.key; do
            printf 'write "%s" %s\nsif %s uid 0\nsif %s gid 0\n' "$work/$file" "$file" "$file" "$file"
        done
        printf 'sif site.toml mode 0100644\nsif node-name mode 0100644\nsif pair.key mode 0100600\n'
    } >"$work/debugfs"
    debugfs -w -f "$work/debugfs" "$1" >"$work/debugfs.log" 2>&1
    debugfs -R 'stat pair.key' "$1" 2>/dev/null | grep -q 'Mode: *0600' || {
        cat "$work/debugfs.log" >&2
        die "the state partition could not be filled"
    }
}

make_data() {
    rm -f "$work/data"
    truncate -s "${data_size}M" "$work/data"
    set -- mkfs.ext4 -q -L twobox-data -E root_owner=0:0 -m 1
    [ -z "${data:-}" ] || set -- "$@" -d "$data"
    "$@" "$work/data" >"$work/mkfs.log" 2>&1 || {
        cat "$work/mkfs.log" >&2
        [ -z "${data:-}" ] || die "$data could not be put on the data partition: does it fit in --data-size $data_size?"
        die "the data partition could not be made"
    }
}

# make_disk FILE STATE
make_disk() {
    rm -f "$1"
    truncate -s "$((2 + esp_size + state_size + data_size))M" "$1"
    sfdisk --quiet "$1" <<TABLE
label: gpt
start=1MiB, size=${esp_size}MiB, type=uefi, name=twobox-esp
size=${state_size}MiB, type=linux, name=twobox-state
size=${data_size}MiB, type=linux, name=twobox-data
TABLE
    at=1
    for part in "$work/esp:$esp_size" "$2:$state_size" "$work/data:$data_size"; do
        dd if="${part%:*}" of="$1" bs=1M seek="$at" conv=notrunc,sparse status=none
        at=$((at + ${part##*:}))
    done
}

# Everything that can be wrong is looked at here, before the first file is made.
prepare() {
    need sfdisk:fdisk mkfs.vfat:dosfstools mmd:mtools mkfs.ext4:e2fsprogs debugfs:e2fsprogs objcopy:binutils \
        objdump:binutils zstd:zstd xz:xz-utils sha256sum:coreutils
    [ -n "${board:-}" ] || die "--board is missing; there is: $(cd "$here/board" && echo */ | tr -d /)"
    case $board in
        */*) ;;
        *) board=$here/board/$board ;;
    esac
    [ -f "$board/board.toml" ] || die "$board: no board.toml; there is: $(cd "$here/board" && echo */ | tr -d /)"
    case $data_size in
        # What begins with 0 is octal to the shell.
        '' | *[!0-9]* | 0* | ????????*) die "--data-size $data_size: a number of MiB, please, as 256" ;;
    esac
    [ "$data_size" -ge 8 ] || die "--data-size $data_size: at least 8"
    [ -z "${data:-}" ] || [ -d "$data" ] || die "$data: no folder"
    [ -d "$(dirname "$output")" ] || die "$(dirname "$output"): no folder"
    wanted=$((3 * (data_size + esp_size + state_size)))
    for folder in "$(dirname "$output")" "${TMPDIR:-/tmp}"; do
        [ -w "$folder" ] || die "$folder cannot be written; choose another --output, or another TMPDIR for what is in the making"
        room=$(df --output=avail -m "$folder" | tail -n 1)
        [ "$room" -ge "$wanted" ] || die "$folder has $room MiB free; $wanted are needed (--output, and TMPDIR)"
    done
    find_kernel
    find_boot_loader
    find_program
    work=$(mktemp -d "${TMPDIR:-/tmp}/twobox-flash.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    trap 'exit 130' HUP INT TERM # a terminal that goes away must not leave a key behind
}

build() {
    "$packer" --board "$board" --program "$program" --modules "$modules" --output "$work" >"$work/list" ||
        die "the initramfs cannot be packed"
    cat "$work/list"
    make_unified_kernel
}

build_partitions() {
    build
    make_esp
    make_data
}

command_image() {
    output=${output:-$here/twobox.img}
    prepare
    build_partitions
    make_state "$work/state" ""
    make_disk "$work/disk" "$work/state"
    mv "$work/disk" "$output"
    echo "$output: give it site, key and node with: ./flash.sh pair"
}

command_pair() {
    [ -n "${site:-}" ] || die "--site is missing"
    [ -r "$site" ] || die "$site: cannot be read"
    output=${output:-$here/out}
    if [ -e "$output/a.img" ] || [ -e "$output/b.img" ]; then
        die "$output holds the disks of a pair, with its key; give another --output, or remove them"
    fi
    prepare
    cp "$site" "$work/site.toml"
    problems=$("$packer" check "$site" "$board/board.toml" 2>&1) || die "$problems"
    (umask 077 && head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n' >"$work/pair.key" && echo >>"$work/pair.key")
    [ "$(stat -c %s "$work/pair.key")" = 65 ] || die "no key could be made"
    build_partitions
    mkdir -p "$output"
    for node in a b; do
        make_state "$work/state-$node" "$node"
        make_disk "$work/disk" "$work/state-$node"
        # Half a copy has another name.
        (umask 077 && cp --sparse=always "$work/disk" "$output/$node.new" && mv "$output/$node.new" "$output/$node.img")
        echo "$output/$node.img"
    done
    cp "$work/initramfs" "$work/command-line" "$output/"
    cp "$work/twobox.efi" "$output/update.efi"
}

command_update() {
    output=${output:-$here/update.efi}
    prepare
    build
    mv "$work/twobox.efi" "$output"
    echo "$output: copy it to the box that serves, then there: twobox update --pair FILE"
}

# Refuses what must not be overwritten: no disk, mounted, in use as swap or by a volume manager, or smaller than the image.
# look_at_device read|written: rights come first, because without them the commands below fail in words of their own.
look_at_device() {
    [ -e "$device" ] || die "$device: no such device"
    [ -f "$image" ] || die "$image: no such file"
    [ -r "$image" ] || die "$image cannot be read by $(id -un)"
    [ -r "$device" ] || die "$device cannot be read by $(id -un); run this as root"
    [ "$1" = read ] || [ -w "$device" ] || die "$device cannot be written by $(id -un); run this as root"
    [ "$(stat -L -c %d:%i "$image")" != "$(stat -L -c %d:%i "$device")" ] || die "$device is the image itself"
    # A partition table in the second sector, as sfdisk makes it above.
    [ "$(head -c 520 "$image" | tail -c +513 | tr -d '\0')" = "EFI PART" ] ||
        die "$image: no image of a disk; flash.sh makes one with: ./flash.sh pair, or image"
    if [ -f "$device" ]; then
        size=$(stat -L -c %s "$device")
        echo "$device: a file of $size bytes"
    elif [ -b "$device" ]; then
        need lsblk:util-linux blockdev:util-linux
        # What cannot be looked at is not written: each answer is asked for by itself, so that none is missed.
        kind=$(lsblk -dno TYPE "$device") || die "$device: lsblk does not know it"
        [ "$kind" = disk ] || die "$device: not a whole disk but a $kind"
        mounts=$(lsblk -nro NAME,MOUNTPOINT "$device") || die "$device: lsblk does not say what is mounted"
        used=$(echo "$mounts" | awk 'NF > 1 { printf "%s%s on %s", sep, $1, $2; sep = ", " }')
        [ -z "$used" ] || die "$device is in use: $used"
        parts=$(lsblk -nro NAME,TYPE "$device") || die "$device: lsblk does not say what is built on it"
        held=$(echo "$parts" | awk '$2 != "disk" && $2 != "part" { printf "%s%s (%s)", sep, $1, $2; sep = ", " }')
        [ -z "$held" ] || die "$device carries $held"
        size=$(blockdev --getsize64 "$device")
        sector=$(blockdev --getss "$device") || die "$device: blockdev does not know its sectors"
        # Firmware looks for the partition table in the second sector, and counts in sectors what it says.
        [ "$sector" = 512 ] || die "$device has sectors of $sector bytes, and the image is made for 512: take another disk," \
            "or set this one to sectors of 512 bytes, if it can (nvme format --lbaf, sg_format --size=512; both delete it)"
        lsblk -o NAME,SIZE,MODEL,SERIAL,FSTYPE,LABEL,PARTLABEL "$device"
    else
        die "$device: neither a disk nor a file"
    fi
    length=$(stat -L -c %s "$image")
    [ "$length" -gt 1048576 ] || die "$image: too small for a disk"
    [ "$size" -ge "$length" ] || die "$device has $size bytes and $image $length"
}

# What lsblk does not show: a disk that belongs to a file system of several, for example. The kernel reads the partitions
# of a disk anew only when nobody has it.
refuse_used_disk() {
    [ -b "$device" ] || return 0
    said=$(LC_ALL=C blockdev --rereadpt "$device" 2>&1) || case $said in
        *[Bb]usy*) die "$device is in use: $said" ;;
    esac
}

# The partition table goes last: a disk that is not written whole starts nowhere.
write_disk() {
    dd if=/dev/zero of="$device" bs=1M count=1 conv=notrunc,fsync status=none &&
        dd if="$image" of="$device" bs=1M skip=1 seek=1 conv=notrunc,fsync status=progress &&
        dd if="$image" of="$device" bs=1M count=1 conv=notrunc,fsync status=none
}

compare() {
    echo "reading back"
    if [ -b "$device" ]; then
        blockdev --flushbufs "$device"
    fi
    cmp --bytes="$length" "$image" "$device" || die "$device does not hold $image"
    echo "$device holds $image"
}

command_write() {
    [ $# = 2 ] || usage "write needs an image and a device, not $# words"
    image=$1 device=$2
    look_at_device written
    refuse_used_disk
    printf 'All that is on it will be lost. Type %s to go on: ' "$device"
    read -r answer || answer=
    [ "$answer" = "$device" ] || die "nothing was written"
    write_disk || die "$device is not written whole and starts nowhere: write it again, or take another one"
    if [ -b "$device" ]; then
        # The second copy of the partition table belongs to the end of the disk.
        [ "$size" -eq "$length" ] || echo "the disk is larger than the image; the rest stays unused"
    fi
    compare
}

command_verify() {
    [ $# = 2 ] || usage "verify needs an image and a device, not $# words"
    image=$1 device=$2
    look_at_device read
    compare
}

# Installs the Debian packages of the commands that are missing, having said so. "command:package" pairs, as for need.
install_missing() {
    missing=
    for pair in "$@"; do
        command -v "${pair%%:*}" >/dev/null 2>&1 || case " $missing " in
            *" ${pair##*:} "*) ;;
            *) missing="${missing:+$missing }${pair##*:}" ;;
        esac
    done
    [ -n "$missing" ] || return 0
    [ -e /etc/debian_version ] || die "missing: $missing (these are the names of Debian's packages)"
    as_root=
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null 2>&1 || die "missing: $missing; as root: apt-get install $missing"
        as_root=sudo
    fi
    echo "This installs with apt-get: $missing"
    $as_root apt-get update -q
    # shellcheck disable=SC2086 # package names are words
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $missing
}

# The demonstration itself is tests/appliance/demo, on the rig of the appliance tests.
command_demo() {
    case ${1-} in
        '' | --script) ;;
        *) usage "demo knows no $1" ;;
    esac
    install_missing qemu-system-x86_64:qemu-system-x86 musl-gcc:musl-tools sfdisk:fdisk mkfs.vfat:dosfstools mmd:mtools \
        mkfs.ext4:e2fsprogs objcopy:binutils xz:xz-utils zstd:zstd setpriv:util-linux
    if ! command -v cargo >/dev/null 2>&1; then
        [ -n "$(apt-cache policy rustup 2>/dev/null)" ] || die "Rust is missing, and this Debian has no rustup: see https://rustup.rs"
        install_missing rustup:rustup
        echo "This installs with rustup: Rust, for $(id -un)"
        rustup default stable
    fi
    cd "$here"
    if command -v rustup >/dev/null 2>&1 && ! rustup target list --installed | grep -qx "$target"; then
        echo "This installs with rustup: the target $target"
        rustup target add "$target"
    fi
    if [ -z "${TWOBOX_PROGRAM:-}" ]; then
        echo "building (the first time takes minutes)"
        cargo build --release --target "$target" --bins || die "the program does not build"
    fi
    cargo build --example demo || die "the demonstration does not build"
    exec cargo run --quiet --example demo -- "$@"
}

[ $# -gt 0 ] || usage "what shall be done?"
command=$1
shift
kernel='' program='' board='' site='' output='' data='' data_size=256
# What would be ignored is refused.
case $command in
    image) options='--kernel --program --board --output --data --data-size' ;;
    pair) options='--kernel --program --board --output --data --data-size --site' ;;
    update) options='--kernel --program --board --output' ;;
    kernel) options='--kernel' ;;
esac
case $command in
    image | pair | update | kernel)
        while [ $# -gt 0 ]; do
            case " $options " in
                *" $1 "*) ;;
                *) usage "$command knows no $1" ;;
            esac
            [ $# -gt 1 ] || usage "$1 needs a value"
            case $1 in
                --kernel) kernel=$2 ;;
                --program) program=$2 ;;
                --board) board=$2 ;;
                --site) site=$2 ;;
                --output) output=$2 ;;
                --data) data=$2 ;;
                --data-size) data_size=$2 ;;
            esac
            shift 2
        done
        ;;
esac
case $command in
    kernel)
        find_kernel
        echo "$kernel"
        ;;
    image) command_image ;;
    pair) command_pair ;;
    update) command_update ;;
    write) command_write "$@" ;;
    verify) command_verify "$@" ;;
    demo) command_demo "$@" ;;
    help | --help | -h) help ;;
    *) usage "there is no command $command" ;;
esac
