#!/bin/sh
#
# Lays out the image's file system: the programs, the libraries that they are linked to, certificates, and nothing else.
#
#   rootfs.sh FOLDER PROGRAM…

set -eu

root=$1
shift
mkdir -p "$root/usr/local/bin" "$root/etc/ssl/certs"
# For a program that wants a scratch file.
mkdir -p "$root/tmp" && chmod 1777 "$root/tmp"
cp "$@" "$root/usr/local/bin/"
# The same program: its name says which it is.
ln -s ponix-all-in-one "$root/usr/local/bin/ponix-ingest"
for library in $(ldd "$@" | sed -n 's/^[^/]*\(\/[^ :]*\) (.*/\1/p' | sort -u); do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
done
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
echo 'ponix:x:65532:65532::/:/none' > "$root/etc/passwd"
echo 'ponix:x:65532:' > "$root/etc/group"
echo 'hosts: files dns' > "$root/etc/nsswitch.conf"
