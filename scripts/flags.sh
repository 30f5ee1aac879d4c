# shellcheck shell=bash disable=SC2154,SC2034 # variables shared with the scripts
# Reading of d8's and dhctl's command lines, for the scripts: sourced, with
# $program set. It sets flag, inline, value and shifts. Flags come as "--flag value", "--flag=value", "--switch",
# "--switch=false", "-x value" or "-xvalue", with _ for - in long names (S2.1.1).

# die ERROR [HINT [STATUS]]
die() {
  printf '%s: error: %s\n' "$program" "$1" >&2
  [[ -z ${2:-} ]] || printf '%s: hint: %s\n' "$program" "$2" >&2
  exit "${3:-64}"
}

# manual SUMMARY: the usage text as a manual page in roff. The text has a form:
# lines of usage, a blank line, paragraphs, and groups, each a line and below it
# flags, two blanks in and two between a flag and what it means.
manual() {
  local lines line next i=0
  mapfile -t lines < <(usage)
  printf '.TH "%s" 1 "" ferry\n.SH NAME\n%s \\- %s\n.SH SYNOPSIS\n' "${program^^}" "$program" "$1"
  for (( ; i < ${#lines[@]}; i++)); do
    [[ -n ${lines[i]} ]] || break
    printf '.B %s\n.br\n' "$(roff "${lines[i]:7}")"
  done
  printf '.SH DESCRIPTION\n'
  for ((i++; i < ${#lines[@]}; i++)); do
    line=${lines[i]} next=${lines[i + 1]:-}
    case $line in
    '') printf '.PP\n' ;;
    '   '*) roff "${line##*   }" ;;
    '  '*)
      line=${line:2}
      printf '.TP\n.B %s\n' "$(roff "${line%%  *}")"
      [[ $line != *'  '* ]] || roff "${line##*  }"
      ;;
    *)
      if [[ $next == '  '* ]]; then
        printf '.SH "%s"\n' "$(roff "${line^^}")"
      else
        roff "$line"
      fi
      ;;
    esac
  done
  printf '.SH "EXIT STATUS"\nThat of the stage that failed: see \n.BR ferry-fetch (1).\n'
}

roff() {
  local text=${1//\\/\\e}
  printf '%s\n' "${text//-/\\-}"
}

# split WORD: sets flag, and inline when the word holds the flag's value too.
split() {
  unset inline
  flag=$1
  case $1 in
  --*=*)
    flag=${1%%=*}
    inline=${1#*=}
    ;;
  --*) ;;
  -??*)
    flag=${1:0:2}
    inline=${1:2}
    inline=${inline#=}
    ;;
  esac
  [[ $flag != --* ]] || flag=${flag//_/-}
}

# take WORDS...: sets value to the flag's, and shifts to the words it used.
take() {
  if [[ -n ${inline+set} ]]; then
    value=$inline
  else
    (($# >= 2)) || die "$flag needs a value"
    value=$2
    shifts=2
  fi
}

# on: whether the switch is on; --switch=false turns it off.
on() {
  case ${inline-true} in
  true | 1 | t | T | TRUE | True) return 0 ;;
  false | 0 | f | F | FALSE | False) return 1 ;;
  *) die "$flag is a switch, and $inline neither true nor false" ;;
  esac
}

# log_level: sets common to the log level that d8's MIRROR_DEBUG_LOG, 0 to 4,
# asks for, in front of what the command line says (S2.3).
log_level() {
  case ${MIRROR_DEBUG_LOG:-0} in
  *[!0-9]* | ?????*) printf '%s: warn: MIRROR_DEBUG_LOG=%s is not a number from 0 to 4 and is ignored\n' "$program" "$MIRROR_DEBUG_LOG" >&2 ;;
  *[1-9]*) common=(--log-level=debug "${common[@]}") ;;
  esac
}

# password_line VARIABLE: exports VARIABLE with the first line of standard input.
password_line() {
  local line
  IFS= read -r line || [[ -n $line ]] || die "--password-stdin: standard input has no line" "put the program that knows the password before this one in a pipe"
  line=${line%$'\r'}
  [[ -n $line ]] || die "--password-stdin: the first line of standard input is empty"
  export "$1=$line"
}

# run STAGE...: runs a stage, so that a signal to this script alone reaches it
# and it ends before the script does.
children=()
run() {
  "$@" &
  children=("$!")
  await "$!"
}

# await PID: waits for a child, past signals, and returns its exit status.
await() {
  local code=0
  wait "$1" || code=$?
  while kill -0 "$1" 2>/dev/null; do
    code=0
    wait "$1" || code=$?
  done
  return "$code"
}

forward() { [[ -z ${children[*]} ]] || kill "-$1" "${children[@]}" 2>/dev/null || :; }
trap 'forward TERM' TERM
trap 'forward INT' INT

# The stages beside a checkout's scripts, or on the PATH where they are installed.
find_stages() {
  local here=$1
  [[ ! -x $here/../bin/ferry-fetch ]] || PATH=$here/../bin:$PATH
  command -v ferry-fetch >/dev/null || die "ferry-fetch is not on the PATH" "run make install, or make build in a checkout"
}

# begin_summary: makes $scratch, which goes when the script ends, and lets the
# summary of the stages count the time from now. The stages write their frames
# to files there, so that exactly one is shown, behind all other messages.
begin_summary() {
  scratch=$(mktemp -d)
  frame=$scratch/summary
  trap 'cat -- "$frame" >&2 2>/dev/null || :; rm -rf -- "$scratch"' EXIT
  FERRY_STARTED=$(printf '%(%s)T' -1)
  export FERRY_STARTED
  [[ ! -t 2 || ${TERM:-dumb} == dumb ]] || export FORCE_COLOR=1
}
