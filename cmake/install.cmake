# SPDX-License-Identifier: MIT
install(FILES include/procpool.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
