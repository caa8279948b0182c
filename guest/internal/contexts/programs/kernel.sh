PS1= PS2= PROMPT_COMMAND= BASH_ARGV0=bash
unset MAILCHECK TMOUT HISTFILE
set +m +o history +H
shopt -u checkwinsize
__cloche_length() { printf '\\x%02x\\x%02x\\x%02x\\x%02x' $(($1 >> 24)) $(($1 >> 16 & 255)) $(($1 >> 8 & 255)) $(($1 & 255)); }
__cloche_field() { local LC_ALL=C; printf "$(__cloche_length ${#1})"; printf %s "$1"; }
__cloche_size() { local LC_ALL=C; __cloche_length $((12 + ${#1} + ${#2} + ${#3})); }
__cloche_error() { { printf "x$(__cloche_size "$1" "$2" "$3")"; __cloche_field "$1"; __cloche_field "$2"; __cloche_field "$3"; } >&4; }
__cloche_done() {
  local status=$? said found
  if ((status == 2)) && ! found=$("$BASH" -n <<<"${__cloche_code-}" 2>&1); then
    found=${found:0:65536}
    found=${found//"$BASH: "/"${BASH##*/}: "}
    __cloche_error SyntaxError "${found%%$'\n'*}" "$found" || :
    status=error
  fi
  said="$1 exit $status"
  [[ $status == error ]] && said="$1 error" && status=2
  __cloche_status=$status
  printf "D$(__cloche_length ${#said})%s" "$said" >&4
  return $status
}
__cloche_again() { [[ $- == *e* ]] || return ${__cloche_status:-0}; }
printf "R$(__cloche_length ${#BASH_VERSION})%s" "$BASH_VERSION" >&4
