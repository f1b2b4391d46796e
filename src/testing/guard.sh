# Runs one command and sees to it that the command does not outlive the process that started this script.
#
#   sh -c "$this_script" guard REMOVE LOG SIGNAL COMMAND [ARGUMENT…]
#
# Standard input is a pipe of which only the starting process holds the other end. The kernel closes it when that
# process dies, however it dies; then the command gets SIGNAL, and SIGKILL if that did not end it. When the command
# has ended, the script waits for the pipe to close, and removes the folder REMOVE ("-": none) unless it read "keep".
# The command's output goes to the file LOG ("-": to this script's own output). What the script itself has to say
# begins with the control character \001.
remove=$1 log=$2 signal=$3
shift 3
exec 3<&0 </dev/null
if [ "$log" = - ]; then
    "$@" 3<&- &
else
    "$@" >>"$log" 2>&1 3<&- &
fi
pid=$!
# Nothing of ours on the command's standard error, nor its pipe held open when the command is done with it.
exec 2>/dev/null
# The starting process may be gone when we write to it. Set here, for the command must not inherit it.
trap '' PIPE

# The guard proper. It ends before the command's process id is given back, so that it cannot hit a stranger.
(
    read -r _ <&3
    kill -"$signal" "$pid"
    kill -CONT "$pid"
    [ "$signal" = KILL ] || sleep 5
    # The children of a Postgres that does not answer; elsewhere than on Linux they notice by themselves.
    kill -KILL "$pid" $(cat "/proc/$pid/task/$pid/children")
) >/dev/null &
guard=$!

printf '\001pid %s\n' "$pid"
wait "$pid"
status=$?
kill "$guard"
printf '\001exit %s\n' "$status"
read -r word <&3
[ "$word" = keep ] || [ "$remove" = - ] || rm -rf "$remove"
