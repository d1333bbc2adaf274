# What failed, in lines that begin with "FAILED: ". A script that runs others gathers theirs and says them again at its end,
# so that its last lines are enough. Sourced by run.sh, matrix.sh and soak.sh.

# test_failures WHERE FILE: of every test that failed in what ctest printed, or in what one test program printed, its name, its
# failed test functions, and what was asserted and where, or what a sanitizer found; else its last lines. Behind that the last
# lines of the logs of its servers, which tests/harness/scene.c prints.
test_failures() {
	awk -v where="$1" '
		function add(text) {
			if (text != "" && !(text in seen) && count < 8) {
				seen[text] = 1
				detail[++count] = text
			}
		}
		function end_log(i) {
			for (i = 3; i >= 0 && log_name != ""; i--)
				if (log_lines > i && logged_count < 24) logged[++logged_count] = log_name ": " log_last[(log_lines - i) % 4]
			log_name = ""
			log_lines = 0
		}
		function tell(i) {
			end_log()
			if (failing) {
				if (names != "" || how != "") print "FAILED: " where name ": " how names
				if (count == 0) for (i = 2; i >= 0; i--) add(last[(lines - i) % 3])
				for (i = 1; i <= count; i++) print "FAILED: " where name ": " detail[i]
				for (i = 1; i <= logged_count; i++) print "FAILED: " where name ": " logged[i]
			}
			split("", seen); split("", detail); split("", last); split("", logged)
			count = lines = logged_count = 0
			names = how = asserted = ""
		}
		BEGIN { failing = 1 }
		/^ *[0-9]+\/[0-9]+ Test +#[0-9]+: / {
			if (ctest) tell()
			ctest = 1
			name = ": " $4
			failing = index($0, "***") > 0
			how = failing ? substr($0, index($0, "***") + 3) : ""
			gsub(/ +/, " ", how)
			next
		}
		/^[0-9]+% tests passed, / { tell(); failing = 0 }
		{ gsub(/[^ (]*\/tests\//, "tests/") }
		/ERROR: [A-Za-z]*Sanitizer|WARNING: ThreadSanitizer|^SUMMARY: |runtime error:|Assertion .* failed/ { add($0); next }
		/^---- / {
			end_log()
			if ($2 ~ /\.log$/) log_name = substr($2, match($2, /[^\/]*$/))
			next
		}
		log_name != "" { log_last[++log_lines % 4] = $0; next }
		/^\[  (FAILED|ERROR )  \] [^-]/ && !/test\(s\)/ { if (!((names " ") ~ (" " $NF " "))) names = names " " $NF; next }
		/^\[   LINE   \] --- |^\[  ERROR   \] --- \[   LINE   \] --- / {
			sub(/^.*\[   LINE   \] --- /, "")
			sub(/: error: Failure!.*/, "")
			add(index(asserted, $0 ":") == 1 ? asserted : $0 ": " asserted)
			asserted = ""
			next
		}
		/^\[  ERROR   \] --- Test failed/ { add(substr($0, 18)); next }
		/^\[  ERROR   \] --- / { asserted = substr($0, 18); next }
		/^ERROR: / { asserted = substr($0, 8); next }
		/^[^ ]+\.[ch]:[0-9]+: / { asserted = $0; next }
		/[^ ]/ && !/^\[|^ *[0-9]+ FAILED TEST/ { last[++lines % 3] = $0 }
		END { if (!ctest) how = "failed"; tell() }
	' "$2" | cut -c 1-240
}

# failures_of FILE: what a script that printed this has said, each line once; when it said nothing, how it ended.
failures_of() {
	if grep -q '^FAILED: ' "$1"; then
		awk '/^FAILED: / && !seen[$0]++' "$1"
	else
		tail -n 5 "$1" | sed 's/^/FAILED: /' | cut -c 1-240
	fi
}
