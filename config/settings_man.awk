# Makes mosquitto-redis.conf(5) out of the commented sample, which a test holds against the table of settings: the sample
# is the one reference. Usage: awk -v version=0.1.0 -f settings_man.awk mosquitto-redis.conf
# Input: "## text" explains, "# name value" or "name value" is a setting, "## -----" stands around a section's title.

function roff(text)
{
	gsub(/\\/, "\\e", text)
	gsub(/-/, "\\-", text)
	gsub(/"/, "\\(dq", text)
	if (text ~ /^[.']/) text = "\\&" text
	return text
}

# A line that is indented by more than a blank, or that follows such a one, is set as it stands.
function put_text(    i, plain)
{
	plain = 1
	for (i = 1; i <= lines; i++) {
		if (text[i] ~ /^  /) {
			if (plain) print ".nf"
			plain = 0
		} else if (!plain) {
			print ".fi"
			plain = 1
		}
		print roff(text[i])
	}
	if (!plain) print ".fi"
	lines = 0
}

function put_settings(    i)
{
	if (settings == 0) return
	for (i = 1; i <= settings; i++) {
		print (i == 1 ? ".TP" : ".TQ")
		print ".B " roff(setting[i])
	}
	settings = 0
	put_text()
}

BEGIN {
	printf ".TH MOSQUITTO\\-REDIS.CONF 5 \"\" \"mosquitto\\-redis %s\" \"File formats\"\n", version
	print ".SH NAME\nmosquitto\\-redis.conf \\- settings of the mosquitto\\-redis plugin, its bridge and its command line tool"
	print ".SH DESCRIPTION"
	lines = settings = 0
	opening = 1
}

# The title of a section stands between two rules.
/^## -+$/ {
	ruled = !ruled
	next
}

/^##/ {
	line = $0
	sub(/^## ?/, "", line)
	if (ruled) {
		put_settings()
		print ".SH " toupper(roff(line))
		next
	}
	# An explanation behind settings begins the next ones.
	if (settings > 0) put_settings()
	text[++lines] = line
	next
}

/^$/ {
	if (opening && lines > 0) put_text()
	opening = 0
	put_settings()
	next
}

{
	line = $0
	sub(/^# /, "", line)
	setting[++settings] = line
}

END {
	put_settings()
	print ".SH FILES\n.TP\n.I /etc/mosquitto/mosquitto\\-redis.conf"
	print "This file's usual place; mosquitto.conf names it in\n.BR plugin_opt_config ,\nthe programs in\n.BR \\-c ."
	print ".SH SEE ALSO\n.BR mosquitto\\-redis\\-bridge (8),\n.BR mosquitto\\-redis\\-ctl (1),\n.BR mosquitto.conf (5)"
}
