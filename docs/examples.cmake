# SPDX-License-Identifier: MIT
# Included by tests/CMakeLists.txt: the documentation's own tests.
if(NOT PROCPOOL_SANITIZE)
  add_script_test(examples_in_pages ${PROJECT_SOURCE_DIR}/docs/check-examples.sh ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR})
endif()
add_script_test(features ${PROJECT_SOURCE_DIR}/docs/check-features.sh ${PROJECT_SOURCE_DIR})
add_script_test(python_names ${PROJECT_SOURCE_DIR}/docs/check-python.sh ${PROJECT_SOURCE_DIR})
