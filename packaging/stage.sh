#!/usr/bin/env bash
# Writes what packages contain besides the program into a folder: manual pages, completions and systemd units, which the program
# itself makes, and in `doc` the documentation and the licences, also of the libraries in the console. Called by deb.sh and
# tarball.sh.
#
#   packaging/stage.sh PROGRAM FOLDER [PREFIX]
#
# PREFIX is where the program will be (/usr/bin): the units name it.
set -euo pipefail
# Folders and files are for everybody to read.
umask 022
program=$(realpath "$1") out=$2 prefix=${3:-/usr/bin}
repository=$(realpath "$(dirname "$0")/..")
rm -rf "$out"
mkdir -p "$out"/{man,completions,systemd/system,systemd/user,doc}
out=$(realpath "$out")

# README.md links to the others.
cp -r "$repository"/{*.md,LICENSE-*,docs} "$out/doc"
cp "$repository"/hub/src/console/vendor/*-LICENSE.txt "$out/doc"

# Nothing of this user's is read: the home is an empty folder.
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
run() { env -i HOME="$home" PATH="$PATH" "$program" "$@"; }

run man "$out/man" >/dev/null
run completions bash >"$out/completions/virtual-llm.bash"
run completions zsh >"$out/completions/_virtual-llm"
run completions fish >"$out/completions/virtual-llm.fish"

# The units name the program that printed them.
unit() { run service install "$1" --manager systemd --print "${@:2}" | sed "s|$program|$prefix/virtual-llm|"; }
unit publish >"$out/systemd/user/virtual-llm.service"
# The options of the packaged hub are in a file that upgrades keep.
unit hub | sed "s|^ExecStart=.*|EnvironmentFile=-/etc/default/virtual-llm-hub\n& \$HUB_OPTIONS|" \
  >"$out/systemd/system/virtual-llm-hub.service"
grep -q "^ExecStart=$prefix/virtual-llm publish" "$out/systemd/user/virtual-llm.service"
grep -q "^ExecStart=$prefix/virtual-llm hub .*\$HUB_OPTIONS\$" "$out/systemd/system/virtual-llm-hub.service"
