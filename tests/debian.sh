# For scripts that need Debian's packages: `. tests/debian.sh`, then `need_packages NAME...`.

# Ends the script with success: these runs are in addition to those that every machine can do.
not_run() {
    echo "not run: $*"
    exit 0
}

# Installs what is missing with apt-get, as root. Where that could be done and fails, the script does so too if DF11_MUST_RUN is
# set, as .ci/run has it.
need_packages() {
    command -v dpkg-query > /dev/null || not_run "this is not a Debian system"
    local missing=() package
    for package in "$@"; do
        dpkg-query --show --showformat '${Status}' "$package" 2> /dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    [ "$(id -u)" = 0 ] || not_run "${missing[*]} not installed, and only root can do that"
    if ! { apt-get update && apt-get install --yes --no-install-recommends "${missing[@]}"; } > /dev/null 2>&1; then
        [ -z "${DF11_MUST_RUN-}" ] || { echo "${missing[*]} could not be installed" >&2; exit 1; }
        not_run "${missing[*]} could not be installed"
    fi
}
