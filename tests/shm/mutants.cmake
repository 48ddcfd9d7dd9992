# SPDX-License-Identifier: MIT
# Included by tests/CMakeLists.txt. The mutants are built by the test itself, with flags of their own, so that it is the same in every build.
add_test(NAME test_shm_ring_mutants
  COMMAND ${CMAKE_CURRENT_LIST_DIR}/mutants.sh ${CMAKE_C_COMPILER} ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR}/mutants)
set_tests_properties(test_shm_ring_mutants PROPERTIES LABELS shm TIMEOUT 600 SKIP_RETURN_CODE 77)
