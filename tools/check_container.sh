#!/usr/bin/env bash
# Tries the image of Dockerfile: builds it, and refines two simulated subjects with it as an ordinary user.
# Where no container engine answers, the Dockerfile's own steps are taken instead, in a Debian of their own (debootstrap,
# chroot; needs root), and that is said. `PYTHON_DEBIAN` is then the release whose Python stands in for the image's.
set -euo pipefail
cd "$(dirname "$0")/.."
engine=""
for candidate in docker podman; do
  if command -v "$candidate" >/dev/null && "$candidate" info >/dev/null 2>&1; then engine=$candidate; break; fi
done

if [ -n "$engine" ]; then
  place=$(mktemp -d)
  trap 'rm -rf "$place"' EXIT
  "$engine" build -t cgckit-check .
  run() { "$engine" run --rm -u "$(id -u):$(id -g)" -v "$place:/data" cgckit-check "$@"; }
  run info
  run phantom scans --subjects 2
  run refine scans/images --out refined --quiet --set steps=5
  run evaluate refined scans/references --quiet
  echo "the image works ($engine)"
  exit 0
fi

echo "no container engine answers: the steps of Dockerfile are taken in a Debian of their own"
command -v debootstrap >/dev/null || { echo "debootstrap is needed for that: apt-get install debootstrap"; exit 1; }
[ "$(id -u)" = 0 ] || { echo "that needs root"; exit 1; }
root=$(mktemp -d /var/tmp/cgckit-container.XXXXXX) && chmod 755 "$root"
mounts=()
finish() {
  for mount in "${mounts[@]}"; do umount -lR "$mount" || true; done
  rm -rf --one-file-system "$root"
}
trap finish EXIT
debootstrap --variant=minbase --include=python3,python3-dev,python3-venv,ca-certificates "${PYTHON_DEBIAN:-bookworm}" "$root" >"$root.log" 2>&1 ||
  { tail -n 20 "$root.log"; exit 1; }
rm -f "$root.log"
ln -sf python3 "$root/usr/bin/python"
# The network and the package index of this machine, as an engine would pass them on.
cp /etc/resolv.conf "$root/etc/resolv.conf" 2>/dev/null || true
mkdir -p "$root/etc"
for path in /etc/pip.conf /etc/xdg/pip /etc/apt/sources.list /etc/apt/sources.list.d /etc/apt/apt.conf.d /usr/local/share/ca-certificates /etc/ssl/certs; do
  [ -e "$path" ] && mkdir -p "$root$(dirname "$path")" && cp -rL "$path" "$root$(dirname "$path")/" 2>/dev/null || true
done
for path in /proc /dev $(python3 -m pip config list 2>/dev/null | grep -oE "/[^'\" ]+" | sort -u); do
  [ -d "$path" ] || continue
  mkdir -p "$root$path" && mount --rbind "$path" "$root$path" && mounts+=("$root$path")
done
environment=(PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root)
while IFS= read -r setting; do environment+=("$setting"); done < <(env | grep -E '^(PIP_|https?_proxy=|HTTPS?_PROXY=|SSL_|REQUESTS_|CURL_)' || true)

inside() { env -i "${environment[@]}" chroot "$root" /bin/sh -ec "$1"; }
user=root
# Both stages in one root: what the second copies from the first is where it belongs already.
while IFS= read -r line; do
  case $line in
    "RUN "*) echo "$line"; inside "${line#RUN }" >"$root/step.log" 2>&1 || { tail -n 20 "$root/step.log"; exit 1; } ;;
    "COPY --from="*) ;;
    "COPY "*)
      read -r -a words <<<"${line#COPY }"
      target=$root${words[-1]}
      [ "${#words[@]}" -gt 2 ] && mkdir -p "$target"
      git ls-files -z --cached --others --exclude-standard "${words[@]:0:${#words[@]}-1}" |
        (if [ -d "${words[0]}" ]; then mkdir -p "$root/src" && xargs -0 cp --parents -t "$root/src"; else xargs -0 cp -t "$target"; fi) ;;
    "ENV "*) for setting in ${line#ENV }; do environment+=("${setting/\$PATH/${environment[0]#PATH=}}"); done ;;
    "ARG "*) name=${line#ARG }; default=${name#*=}; name=${name%%=*}; environment+=("$name=${!name:-$default}") ;;
    "USER "*) user=${line#USER } ;;
    "FROM "* | "WORKDIR "* | "ENTRYPOINT "* | "CMD "* | "#"* | "") ;;
    *) echo "tools/check_container.sh does not know: $line"; exit 1 ;;
  esac
done < <(sed -e ':a' -e '/\\$/N; s/\\\n//; ta' Dockerfile)
mkdir -p "$root/data" && chmod 777 "$root/data" "$root/tmp"
run() { env -i "${environment[@]}" chroot --userspec="$user" "$root" /bin/sh -ec 'cd /data && exec cgckit "$@"' sh "$@"; }
run info
run phantom scans --subjects 2
run refine scans/images --out refined --quiet --set steps=5
run evaluate refined scans/references --quiet
echo "the steps of Dockerfile work, as user $user in a Debian of their own; no image was built"
