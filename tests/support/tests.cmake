# celeriac_test(LABEL name sources... [LIBS libraries...] [TIMEOUT seconds])
# Builds one cmocka program and registers it with ctest under LABEL.
function(celeriac_test label name)
    cmake_parse_arguments(ARG "" "TIMEOUT" "LIBS" ${ARGN})
    if(NOT ARG_TIMEOUT)
        set(ARG_TIMEOUT 60)
    endif()
    add_executable(${name} ${ARG_UNPARSED_ARGUMENTS})
    target_compile_definitions(${name} PRIVATE
        TEST_SOURCE_DIR="${PROJECT_SOURCE_DIR}/tests" TEST_BINARY_DIR="${PROJECT_BINARY_DIR}")
    target_link_libraries(${name} PRIVATE celeriac_flags ${ARG_LIBS} PkgConfig::CMOCKA)
    add_test(NAME ${name} COMMAND ${name})
    set_tests_properties(${name} PROPERTIES LABELS ${label} TIMEOUT ${ARG_TIMEOUT})
endfunction()

# celeriac_unit_test(name sources... [LIBS libraries...])
macro(celeriac_unit_test)
    celeriac_test(unit ${ARGN})
endmacro()

# celeriac_script_test(LABEL name command...): a script whose exit status is the verdict; 77 means skipped.
function(celeriac_script_test label name)
    add_test(NAME ${name} COMMAND ${ARGN} WORKING_DIRECTORY ${PROJECT_BINARY_DIR})
    set_tests_properties(${name} PROPERTIES LABELS ${label} TIMEOUT 300 SKIP_RETURN_CODE 77)
endfunction()
