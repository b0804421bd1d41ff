# What `cmake --install` puts where: the program and its module for RabbitMQ, libceleriac, the two public headers, man pages,
# completion, and what lets other projects find them with find_package(celeriac) or pkg-config.
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/celeriac)

install(TARGETS celeriac RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS celeriac_amqp LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/celeriac)
target_include_directories(celeriac_task INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
install(TARGETS celeriac_shared celeriac_task EXPORT celeriac
    LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES ${PROJECT_BINARY_DIR}/client/libceleriac.a DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES client/celeriac.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES tasks/task.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/celeriac)

install(DIRECTORY ${PROJECT_BINARY_DIR}/app/man/ DESTINATION ${CMAKE_INSTALL_MANDIR}/man1
    FILES_MATCHING PATTERN "*.1")
install(FILES docs/man/libceleriac.3 DESTINATION ${CMAKE_INSTALL_MANDIR}/man3)
install(FILES ${PROJECT_BINARY_DIR}/app/celeriac.bash
    DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME celeriac)

install(EXPORT celeriac NAMESPACE celeriac:: FILE celeriacTargets.cmake DESTINATION ${package_dir})
configure_package_config_file(cmake/celeriacConfig.cmake.in celeriacConfig.cmake
    INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(celeriacConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/celeriacConfig.cmake
    ${PROJECT_BINARY_DIR}/celeriacConfigVersion.cmake DESTINATION ${package_dir})

# The prefix is known only when it is installed (cmake --install --prefix), so the files are written then.
foreach(name celeriac celeriac-task)
    install(CODE "
        set(PROJECT_VERSION ${PROJECT_VERSION})
        set(CMAKE_INSTALL_FULL_INCLUDEDIR \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_INCLUDEDIR}\")
        set(CMAKE_INSTALL_FULL_LIBDIR \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_LIBDIR}\")
        configure_file(\"${PROJECT_SOURCE_DIR}/cmake/${name}.pc.in\" \"${PROJECT_BINARY_DIR}/${name}.pc\" @ONLY)
    ")
    install(FILES ${PROJECT_BINARY_DIR}/${name}.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endforeach()
