# bash completion for mosquitto-redis-ctl: commands and options as the program itself tells them, devices as Redis does.

_mosquitto_redis_ctl() {
	local program=$1 cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} command="" config=() i
	COMPREPLY=()
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		-c | --config) config=(-c "${COMP_WORDS[i + 1]}"); i=$((i + 1)) ;;
		-*) ;;
		*) command=${COMP_WORDS[i]}; break ;;
		esac
	done
	case $prev in
	-c | --config) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$cur")); return ;;
	--to | --since) COMPREPLY=($(compgen -W "now -1h -1d" -- "$cur")); return ;;
	-n) return ;;
	esac
	if [ -z "$command" ]; then
		local commands
		commands=$("$program" --help 2>/dev/null | sed -n 's/^  \([a-z][a-z-]*\) .*/\1/p')
		case $cur in
		-*) COMPREPLY=($(compgen -W "-c --help --version" -- "$cur")) ;;
		*) COMPREPLY=($(compgen -W "$commands" -- "$cur")) ;;
		esac
		return
	fi
	local usage
	usage=$("$program" "$command" --help 2>/dev/null | sed -n 's/^Usage: [^ ]* \[-c FILE\] //p')
	case $cur in
	-*)
		local options
		options=$(printf '%s\n' "$usage" | tr ' []|' '\n\n\n\n' | sed -n '/^-/p')
		COMPREPLY=($(compgen -W "$options --help" -- "$cur"))
		return ;;
	esac
	case $usage in
	*" DEVICE"*)
		local IFS=$'\n'
		compopt -o filenames 2>/dev/null # quotes what needs it
		COMPREPLY=($("$program" "${config[@]}" sessions --json "${cur//[\*\?\[]/?}*" 2>/dev/null |
			sed -n 's/^\[\{0,1\}{"client":"\([^"\\]*\)".*/\1/p')) ;;
	*FILE*) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$cur")) ;;
	esac
}

complete -F _mosquitto_redis_ctl mosquitto-redis-ctl
