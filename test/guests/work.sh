#!/bin/busybox sh
# work.sh PERCENT NAME...: does the named kinds of work, each between two lines that say so.
busybox=/bin/busybox
percent=$1
shift

phase() {
  name=$1
  shift
  echo "MARK $name begin"
  "$@"
  echo "MARK $name end"
}

sums() {
  $busybox find tree -type f | $busybox sort | $busybox xargs $busybox sha256sum >sums
  $busybox sha256sum sums
  $busybox sha256sum tree.tar.gz
}

for work; do
  case $work in
    files)
      phase gentree "${WORKLOADS:-/bin/workloads}" gentree "$percent" tree
      phase tar $busybox tar cf tree.tar tree
      phase gzip $busybox gzip -k -f tree.tar
      phase sha256 sums
      ;;
    applets) phase applets /bin/applets ;;
    *) phase "$work" "${WORKLOADS:-/bin/workloads}" "$work" "$percent" ;;
  esac
done
