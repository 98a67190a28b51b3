# Sourced by scripts here: what they share.

# Adds $2 to the fact $1 (`suite.what`), as tests/support/proof.rs has it: prints it, and appends it
# to the file that MAINSTAY_PROOF names, if there is one.
fact() {
    echo "proof: $1 $2"
    [[ -z ${MAINSTAY_PROOF:-} ]] || printf '%s\t%s\n' "$1" "$2" >>"$MAINSTAY_PROOF"
}

# What is said of a suite, or a part of it, that cannot run.
skipped() { # $1: the suite, $2: why, $3: how many checks
    echo "skipped: $2"
    fact "$1.skipped" "${3:-1}"
}
