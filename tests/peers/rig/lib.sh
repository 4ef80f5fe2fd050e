# What the peers' `run` scripts share. Each ends with one line `DID: …`, which is the last column of README's table.
set -euo pipefail

# Tests with pytest, in the current folder: sdk_tests TOKEN ARGUMENTS… prints pytest's output, and adds the number of passed
# tests to `tests_passed`.
tests_passed=0
sdk_tests() {
  local token=$1 output=tests.out
  shift
  SDK_KEY=$token PYTHONPATH=$PEERS/rig python -m pytest -p sdk_key -p no:cacheprovider -q --no-header -r fE "$@" | tee "$output"
  local passed
  passed=$(sed -nE 's/^([0-9]+) passed.*/\1/p' "$output" | tail -1)
  [[ -n $passed ]]
  tests_passed=$((tests_passed + passed))
}

# Programs that the SDK's authors wrote as examples, with nothing changed but the server: each has to end with exit 0. Two at once.
examples_passed=0
examples() {
  run_example() { timeout 60 python "$1" >"$1.out" 2>&1 </dev/null || { cat "$1.out"; echo "$1 failed"; exit 255; }; }
  export -f run_example
  printf '%s\n' "$@" | xargs -P 2 -I{} bash -c 'run_example {}'
  examples_passed=$((examples_passed + $#))
}

# Programs in the documentation of a package on npm, by their numbers in it: shown_programs FILE NUMBER… They end with exit 0, and
# print no error: some go on after one.
shown_programs() {
  local file=$1 number
  shift
  [[ -e node_modules ]] || ln -s "$NODE_MODULES" node_modules
  python "$PEERS/rig/blocks.py" "$NODE_MODULES/$file" shown
  for number in "$@"; do
    echo "--- $file, program $number"
    timeout 30 node "shown/$number.mts" >example.out 2>&1 </dev/null || { cat example.out; exit 1; }
    ! grep -q Error example.out || { cat example.out; exit 1; }
    examples_passed=$((examples_passed + 1))
  done
  rm -r shown
}

# Runs PEER/calls.mjs, whose assertions are ours.
own_calls() {
  [[ -e node_modules ]] || ln -s "$NODE_MODULES" node_modules
  cp "$PEERS/$1/calls.mjs" .
  timeout 60 node calls.mjs
}

# LangChain's integration tests, in a copy of the source distribution: langchain_tests PACKAGE ARGUMENTS… The tests read a README
# four folders up, where it is in LangChain's repository. They share an HTTP client, so they need one event loop.
langchain_tests() {
  local package=$1
  shift
  mkdir -p repository/libs/partners
  cp -r "$SDISTS"/"$package"-*/ "repository/libs/partners/$package"
  cp "repository/libs/partners/$package/README.md" repository/
  cd "repository/libs/partners/$package"
  sdk_tests unused -n 2 -o addopts= -o asyncio_default_test_loop_scope=session "$@"
  cd "$OLDPWD"
}

# Arguments of pytest that leave out the tests named in the lines of standard input; a # begins a comment.
left_out=()
leave_out() {
  local test
  while read -r test; do
    [[ -z $test || $test == \#* ]] || left_out+=(--deselect "$test")
  done
}

TASK='Find the secret word in note.txt and write it to answer.txt.'

# The task for a coding agent: agent_task MODEL COMMAND… runs the command with the task as its last argument, in a folder with a
# note. The backend follows MODEL/script.json; the file has to be written with the word that the note has this time, after the
# script's four steps and no other.
agent_task() {
  local model=$1 word=word$RANDOM$RANDOM folder
  shift
  folder=$(mktemp -d "$PWD/project-XXXX")
  cd "$folder"
  echo "Nothing else matters here: the secret word is $word." >note.txt
  rm -f "$REQUESTS/$model.jsonl"
  timeout 60 "$@" "$TASK" </dev/null || { echo "exit $?"; exit 1; }
  [[ $(<answer.txt) == "$word" ]] || { echo "answer.txt is wrong: $(<answer.txt)"; exit 1; }
  python - "$REQUESTS/$model.jsonl" <<'END'
import json, sys
steps = [line["step"] for line in map(json.loads, open(sys.argv[1])) if "step" in line]
assert steps == [1, 2, 3, 4], steps
END
  cd "$OLDPWD"
}
