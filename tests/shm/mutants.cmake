# SPDX-License-Identifier: MIT
# Included by tests/CMakeLists.txt: what of this floor is not a plain test program.

# The mutants are built by the test itself, with flags of their own, and so are the same in every build: one is enough.
if(PROCPOOL_SEAMS AND NOT PROCPOOL_SANITIZE)
  add_test(NAME test_shm_mutants
    COMMAND ${CMAKE_CURRENT_LIST_DIR}/mutants.sh ${CMAKE_C_COMPILER} ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR}/mutants)
  set_tests_properties(test_shm_mutants PROPERTIES LABELS shm TIMEOUT 1200 SKIP_RETURN_CODE 77)
endif()

# ./fuzz_ring -max_total_time=10
if(CMAKE_C_COMPILER_ID STREQUAL "Clang" AND NOT PROCPOOL_SANITIZE MATCHES "thread")
  add_executable(fuzz_ring ${CMAKE_CURRENT_LIST_DIR}/fuzz_ring.c
    ${PROJECT_SOURCE_DIR}/src/shm/ring.c ${PROJECT_SOURCE_DIR}/src/base/error.c ${PROJECT_SOURCE_DIR}/src/base/seam.c)
  target_link_libraries(fuzz_ring PRIVATE procpool_build)
  target_include_directories(fuzz_ring PRIVATE ${PROJECT_SOURCE_DIR}/src ${CMAKE_CURRENT_LIST_DIR}/..)
  target_compile_options(fuzz_ring PRIVATE -fsanitize=fuzzer,address,undefined)
  target_link_options(fuzz_ring PRIVATE -fsanitize=fuzzer,address,undefined)
endif()
