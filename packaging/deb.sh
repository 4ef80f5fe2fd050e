#!/usr/bin/env bash
# Builds target/debian/virtual-llm_VERSION_ARCH.deb with Debian's own dpkg-deb.
#
#   packaging/deb.sh                    # builds the program first, optimized across crates: several minutes
#   packaging/deb.sh --program FILE     # packs a program that is already built
#   packaging/deb.sh … -o FILE          # writes the package to FILE
#   packaging/deb.sh … --fast           # compresses less, for tests
set -euo pipefail
# Folders and files are for everybody to read.
umask 022
program='' package='' level=6
while (($#)); do
  case $1 in
    --program) program=$(realpath "$2"); shift 2 ;;
    -o) package=$(realpath -m "$2"); shift 2 ;;
    --fast) level=0; shift ;;
    *) echo "usage: packaging/deb.sh [--program FILE] [-o FILE] [--fast]" >&2; exit 2 ;;
  esac
done
cd "$(dirname "$0")/.."
for tool in dpkg-deb dpkg-shlibdeps strip; do
  command -v $tool >/dev/null || { echo "packaging/deb.sh: $tool is not installed: apt install dpkg-dev binutils" >&2; exit 1; }
done
if [[ -z $program ]]; then
  cargo build --profile dist --locked --bin virtual-llm
  program=$(realpath "${CARGO_TARGET_DIR:-target}/dist/virtual-llm")
fi
version=$("$program" --version | sed 's/.* //') arch=$(dpkg --print-architecture)
package=${package:-$PWD/target/debian/virtual-llm_${version}_$arch.deb}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
staged=$work/staged root=$work/root
packaging/stage.sh "$program" "$staged"
# Adds a file with mode 644, whatever the umask is.
add() { install -D -m 644 "$1" "$root/$2"; }
install -D -m 755 "$program" "$root/usr/bin/virtual-llm"
strip "$root/usr/bin/virtual-llm"
for page in "$staged"/man/*; do
  gzip -9n "$page"
  add "$page.gz" "usr/share/man/man1/${page##*/}.gz"
done
add "$staged/completions/virtual-llm.bash" usr/share/bash-completion/completions/virtual-llm
add "$staged/completions/_virtual-llm" usr/share/zsh/vendor-completions/_virtual-llm
add "$staged/completions/virtual-llm.fish" usr/share/fish/vendor_completions.d/virtual-llm.fish
add "$staged/systemd/system/virtual-llm-hub.service" usr/lib/systemd/system/virtual-llm-hub.service
add "$staged/systemd/user/virtual-llm.service" usr/lib/systemd/user/virtual-llm.service
add packaging/debian/virtual-llm-hub.default etc/default/virtual-llm-hub
documentation=usr/share/doc/virtual-llm
(cd "$staged/doc" && find . -type f) | while read -r file; do
  add "$staged/doc/$file" "$documentation/$file"
done
{
  printf '%s\n' 'virtual-llm is licensed under the MIT licence or the Apache License 2.0, at your choice.' \
    'The latter is in /usr/share/common-licenses/Apache-2.0.' ''
  cat LICENSE-MIT
  for licence in "$staged"/doc/*-LICENSE.txt; do
    library=$(basename "$licence" -LICENSE.txt)
    printf '\n%s\n\n' "The console contains $library, under this licence:"
    cat "$licence"
  done
} >"$work/copyright"
add "$work/copyright" $documentation/copyright
gzip -9nc CHANGELOG.md >"$work/changelog.gz"
add "$work/changelog.gz" $documentation/changelog.gz

# dpkg-shlibdeps reads the dependencies from the program, and wants a source package around it.
mkdir -p "$work/debian" "$root/DEBIAN"
printf 'Source: virtual-llm\n\nPackage: virtual-llm\nArchitecture: any\n' >"$work/debian/control"
depends=$(cd "$work" && dpkg-shlibdeps -O root/usr/bin/virtual-llm | sed -n 's/^shlibs:Depends=//p')
cat >"$root/DEBIAN/control" <<EOF
Package: virtual-llm
Version: $version
Architecture: $arch
Maintainer: The virtual-llm authors
Installed-Size: $(du -sk --apparent-size "$root" | cut -f1)
Depends: ${depends:+$depends, }adduser
Recommends: ca-certificates
Section: net
Priority: optional
Description: offer the LLM on your workstation to your team through one hub
 A registrar on the machine of a model server (Ollama, vLLM, llama.cpp, LM
 Studio) makes outbound connections to a hub, and callers use the hub's
 OpenAI-compatible API. The installation starts neither.
EOF
echo /etc/default/virtual-llm-hub >"$root/DEBIAN/conffiles"
install -m 755 packaging/debian/{postinst,prerm,postrm} "$root/DEBIAN/"
(cd "$root" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
chmod 644 "$root"/DEBIAN/{control,conffiles,md5sums}
mkdir -p "$(dirname "$package")"
# The same input gives the same bytes.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)} \
  dpkg-deb --root-owner-group -Zxz -z$level --build "$root" "$package"
