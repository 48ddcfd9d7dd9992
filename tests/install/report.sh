#!/bin/sh
# SPDX-License-Identifier: MIT
# Runs a test script and adds its verdict to PP_TEST_REPORT, in the harness's format.
#
#     report.sh NAME COMMAND...
name=$1
shift
if "$@"; then
    verdict=passed status=0
else
    verdict=failed status=1
fi
if [ -n "${PP_TEST_REPORT:-}" ]; then
    printf '%s\tscript\t%s\t\n' "$verdict" "$name" >>"$PP_TEST_REPORT"
fi
exit $status
