#!/usr/bin/env bash
# Builds target/tarball/virtual-llm-VERSION-x86_64-linux.tar.gz and its .sha256: a static program (musl) that runs on any
# Linux, with manual pages, completions, units and licences.
#
#   packaging/tarball.sh                  # builds the program first, optimized across crates: several minutes
#   packaging/tarball.sh --program FILE   # packs a static program that is already built
set -euo pipefail
# Folders and files are for everybody to read.
umask 022
program=''
case ${1-} in
  --program) program=$(realpath "$2") ;;
  '') ;;
  *) echo 'usage: packaging/tarball.sh [--program FILE]' >&2; exit 2 ;;
esac
cd "$(dirname "$0")/.."
command -v readelf >/dev/null || { echo 'packaging/tarball.sh: readelf is not installed: apt install binutils' >&2; exit 1; }
triple=x86_64-unknown-linux-musl
target=${CARGO_TARGET_DIR:-target}
if [[ -z $program ]]; then
  if ! rustup target list --installed | grep -qx $triple && ! rustup target add $triple; then
    echo "packaging/tarball.sh: the Rust target $triple is not installed and could not be fetched." >&2
    echo "Run \`rustup target add $triple\` where static.rust-lang.org can be reached. Nothing was built." >&2
    exit 1
  fi
  # SQLite, ring, zstd and mimalloc are built from C.
  command -v musl-gcc >/dev/null || { echo 'packaging/tarball.sh: musl-gcc is not installed: apt install musl-tools' >&2; exit 1; }
  CC_x86_64_unknown_linux_musl=musl-gcc \
    cargo build --profile dist --locked --bin virtual-llm --target $triple
  program=$(realpath "$target/$triple/dist/virtual-llm")
fi
# A static program has no interpreter.
if readelf --program-headers "$program" | grep -q INTERP; then
  echo "packaging/tarball.sh: $program is not static" >&2
  exit 1
fi

version=$("$program" --version | sed 's/.* //')
name=virtual-llm-$version-x86_64-linux
out=target/tarball
mkdir -p $out
rm -rf "${out:?}/$name"
packaging/stage.sh "$program" "$out/$name" /usr/local/bin
# Debian's file of options is not in the tarball.
# shellcheck disable=SC2016 # the word is literal
sed -i '/^EnvironmentFile=/d; s/ \$HUB_OPTIONS$//' "$out/$name/systemd/system/virtual-llm-hub.service"
install "$program" "$out/$name/virtual-llm"
mv "$out/$name"/doc/* "$out/$name"
rmdir "$out/$name/doc"
# The same input gives the same bytes.
tar --create --sort=name --owner=0 --group=0 --numeric-owner --mtime="@${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}" \
  --directory $out "$name" | gzip -9n >"$out/$name.tar.gz"
(cd $out && sha256sum "$name.tar.gz" >"$name.tar.gz.sha256")
echo "$out/$name.tar.gz"
