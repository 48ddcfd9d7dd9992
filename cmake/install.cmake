# SPDX-License-Identifier: MIT
# What is installed. Nothing of it holds the prefix, so that it may be moved as a whole.
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/procpool)

install(TARGETS procpool procpool_static EXPORT procpool
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES include/procpool.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

# The command's own page comes with the command.
foreach(section 3 7)
  file(GLOB pages CONFIGURE_DEPENDS docs/man/*.${section})
  install(FILES ${pages} DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section})
endforeach()

# pkg-config
set(pc_dir ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
cmake_path(RELATIVE_PATH CMAKE_INSTALL_PREFIX
  BASE_DIRECTORY ${CMAKE_INSTALL_PREFIX}/${pc_dir} OUTPUT_VARIABLE prefix_from_pc_dir)
if(IS_ABSOLUTE ${CMAKE_INSTALL_LIBDIR} OR IS_ABSOLUTE ${CMAKE_INSTALL_INCLUDEDIR})
  message(FATAL_ERROR "CMAKE_INSTALL_LIBDIR and CMAKE_INSTALL_INCLUDEDIR are to be relative to the prefix")
endif()
configure_file(cmake/procpool.pc.in ${PROJECT_BINARY_DIR}/procpool.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/procpool.pc DESTINATION ${pc_dir})

# find_package(procpool)
install(EXPORT procpool NAMESPACE procpool:: FILE procpoolTargets.cmake DESTINATION ${package_dir})
configure_package_config_file(cmake/procpoolConfig.cmake.in ${PROJECT_BINARY_DIR}/procpoolConfig.cmake
  INSTALL_DESTINATION ${package_dir} NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/procpoolConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/procpoolConfig.cmake ${PROJECT_BINARY_DIR}/procpoolConfigVersion.cmake
  DESTINATION ${package_dir})
