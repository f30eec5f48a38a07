# SPDX-License-Identifier: Apache-2.0
# The ROS wheels' exported targets name Python's and numpy's headers where the wheels were made, and
# CMake stops at a folder that does not exist. The generators find this machine's headers themselves.
get_property(imported_targets DIRECTORY PROPERTY IMPORTED_TARGETS)
foreach(target IN LISTS imported_targets)
  get_target_property(folders ${target} INTERFACE_INCLUDE_DIRECTORIES)
  if(folders)
    list(FILTER folders EXCLUDE REGEX "^/opt/python/")
    set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${folders}")
  endif()
endforeach()
