#!/usr/bin/env bash
# Installs a package over a copy of this system that is dropped at the end, starts its hub, asks it, and removes and purges
# the package. Run by tests/integration/packaging.rs as root, in a mount namespace of its own:
#
#   unshare --mount tests/packaging/installed.sh FILE.deb PORT
#
# systemd does not run in there: the unit's command line is started as the unit's user, in the folder that systemd makes.
set -euo pipefail
deb=$1 port=$2
fail() { echo "installed.sh: $*" >&2; exit 1; }

# Only this namespace sees what is mounted here.
layers=/mnt
mount -t tmpfs tmpfs "$layers" || exit 77
root=$layers/root
mkdir "$layers"/{upper,work,root}
mount -t overlay overlay -o "lowerdir=/,upperdir=$layers/upper,workdir=$layers/work" "$root" || exit 77
mount --bind /dev "$root/dev"
mount -t proc proc "$root/proc"
inside() { chroot "$root" "$@"; }
cp "$deb" "$root/virtual-llm.deb"
# A shell runs it as the dpkg of a server would be run: nothing asks.
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

inside dpkg --install /virtual-llm.deb
changed=$(inside dpkg --verify virtual-llm)
[[ -z $changed ]] || fail "files differ from the package: $changed"
inside virtual-llm --version
for file in man/man1/virtual-llm-hub.1.gz bash-completion/completions/virtual-llm zsh/vendor-completions/_virtual-llm \
  fish/vendor_completions.d/virtual-llm.fish doc/virtual-llm/copyright; do
  [[ -s $root/usr/share/$file ]] || fail "no $file"
done
documentation=$root/usr/share/doc/virtual-llm
grep -o '](\([A-Za-z/.-]*\)' "$documentation/README.md" | sort -u | while read -r link; do
  [[ -s $documentation/${link:2} ]] || fail "README.md links to ${link:2}, which is not in the package"
done
grep -q 'Christopher Jeffrey' "$documentation/copyright" || fail 'no licence of a library'
user=virtual-llm-hub
id=$(inside getent passwd $user | cut -d: -f3) || fail 'the user was not made'
! grep -qs "^Uid:[[:space:]]*${id}[[:space:]]" /proc/[0-9]*/status || fail 'something runs before it was started'
[[ ! -e $root/etc/systemd/system/multi-user.target.wants/virtual-llm-hub.service ]] || fail 'the hub is enabled'
unit=/usr/lib/systemd/system/virtual-llm-hub.service
if command -v systemd-analyze >/dev/null; then
  said=$(inside systemd-analyze verify $unit 2>&1) || fail "$said"
  [[ $said != *virtual-llm* ]] || fail "$said"
fi

# What the administrator changes stays through another installation.
options=/etc/default/virtual-llm-hub
sed -i "s|^HUB_OPTIONS=.*|HUB_OPTIONS=\"--listen 127.0.0.1:$port\"|" "$root$options"
inside dpkg --install /virtual-llm.deb
grep -q "127.0.0.1:$port" "$root$options" || fail 'the options were overwritten'

inside install -d -o $user -g $user -m 700 /var/lib/virtual-llm
line=$(sed -n 's/^ExecStart=//p' "$root$unit")
chroot --userspec=$user:$user "$root" env -i sh -c ". $options; exec $line" &
hub=$!
trap 'kill -KILL $hub 2>/dev/null || true' EXIT
answer=''
for _ in {1..100}; do
  answer=$(
    exec 3<>"/dev/tcp/127.0.0.1/$port" && printf 'GET /healthz HTTP/1.0\r\n\r\n' >&3 && head -1 <&3
  ) 2>/dev/null && break
  sleep 0.1
done
[[ $answer == *' 200 '* ]] || fail "the hub answered: $answer"
grep -q "^Uid:[[:space:]]*${id}[[:space:]]" "/proc/$hub/status" || fail 'the hub has another user'
[[ $(stat -c '%u %a' "$root/var/lib/virtual-llm/admin-token") == "$id 600" ]] || fail 'the admin token is not the hub'\''s alone'
kill -TERM $hub
wait $hub || fail "the hub ended with $?"

inside dpkg --remove virtual-llm
[[ ! -e $root/usr/bin/virtual-llm ]] || fail 'the program is still there'
[[ -e $root$options && -e $root/var/lib/virtual-llm/hub.db ]] || fail 'a removal took options or data'
inside dpkg --purge virtual-llm
left=$(find "$root"/{etc,usr/bin,usr/lib/systemd,usr/share,var/lib} -path '*virtual-llm*' -newer "$root/virtual-llm.deb" -print 2>/dev/null)
[[ -z $left ]] || fail "a purge left $left"
echo 'installed, served, removed and purged'
