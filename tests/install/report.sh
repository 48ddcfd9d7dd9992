#!/bin/sh
# SPDX-License-Identifier: MIT
# Runs a test script and adds its verdict to PP_TEST_REPORT, in the harness's format. A script that can't judge here leaves the reason in the file
# PP_TEST_LEFT_OUT.
#
#     report.sh NAME COMMAND...
name=$1
shift
PP_TEST_LEFT_OUT=$(mktemp)
export PP_TEST_LEFT_OUT
if "$@"; then
    verdict=passed status=0
else
    verdict=failed status=1
fi
reason=$(cat "$PP_TEST_LEFT_OUT")
rm -f "$PP_TEST_LEFT_OUT"
[ $status -ne 0 ] || [ -z "$reason" ] || verdict=skipped
if [ -n "${PP_TEST_REPORT:-}" ]; then
    printf '%s\tscript\t%s\t%s\n' "$verdict" "$name" "$reason" >>"$PP_TEST_REPORT"
fi
exit $status
