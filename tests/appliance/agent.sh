#!/data/bin/busybox sh
# shellcheck shell=dash
# The rig's hand inside a box: a shell on the fourth serial port. Each line is a command; its end is told.
exec </dev/ttyS3 >/dev/ttyS3 2>&1
export PATH=/data/bin
alias bb=/data/bin/busybox
bb stty raw -echo
echo # ends the line that a power cut may have left half
echo agent ready
while read -r line; do
    eval "$line"
    echo "done $?"
done
