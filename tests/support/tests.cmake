option(CELERIAC_VALGRIND "Run every test program under valgrind" OFF)
set(celeriac_valgrind valgrind -q --error-exitcode=97 --leak-check=full
    --errors-for-leak-kinds=definite --trace-children=yes
    --trace-children-skip=*/redis-server,*/redis-cli,*/python3*,*/sh)

# celeriac_run_test(LABEL name timeout target [argument...]): a program of ours as a test, under valgrind when that is asked for.
function(celeriac_run_test label name timeout target)
    if(CELERIAC_VALGRIND)
        math(EXPR timeout "${timeout} * 10")
        add_test(NAME ${name} COMMAND ${celeriac_valgrind} $<TARGET_FILE:${target}> ${ARGN})
    else()
        add_test(NAME ${name} COMMAND ${target} ${ARGN})
    endif()
    set_tests_properties(${name} PROPERTIES LABELS ${label} TIMEOUT ${timeout})
endfunction()

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
    celeriac_run_test(${label} ${name} ${ARG_TIMEOUT} ${name})
endfunction()

# celeriac_unit_test(name sources... [LIBS libraries...])
macro(celeriac_unit_test)
    celeriac_test(unit ${ARGN})
endmacro()

# celeriac_script_test(LABEL name command...): a script whose exit status is the verdict; 77 means skipped.
function(celeriac_script_test label name)
    add_test(NAME ${name} COMMAND ${ARGN} WORKING_DIRECTORY ${PROJECT_BINARY_DIR})
    set_tests_properties(${name} PROPERTIES LABELS "${label};script" TIMEOUT 300
        SKIP_RETURN_CODE 77)
    if(CELERIAC_VALGRIND)
        # The harness runs celeriac under valgrind and reads from here what it found.
        set(findings ${PROJECT_BINARY_DIR}/valgrind/${name})
        file(MAKE_DIRECTORY ${findings})
        set_tests_properties(${name} PROPERTIES TIMEOUT 3000 ENVIRONMENT CELERIAC_VALGRIND=${findings})
    endif()
endfunction()

# celeriac_fuzz_test(name sources... [LIBS libraries...] [SEEDS folder])
# A libFuzzer program, built only with CELERIAC_FUZZ and run for CELERIAC_FUZZ_SECONDS; new inputs go
# to a folder of the build tree, the seeds stay as they are.
set(CELERIAC_FUZZ_SECONDS 20 CACHE STRING "How long a fuzz target runs as a test")
add_custom_target(celeriac_fuzz)
function(celeriac_fuzz_test name)
    if(NOT CELERIAC_FUZZ)
        return()
    endif()
    cmake_parse_arguments(ARG "" "SEEDS" "LIBS" ${ARGN})
    set(corpus ${CMAKE_CURRENT_BINARY_DIR}/${name}.corpus)
    file(MAKE_DIRECTORY ${corpus})
    add_executable(${name} ${ARG_UNPARSED_ARGUMENTS})
    target_link_libraries(${name} PRIVATE celeriac_flags ${ARG_LIBS})
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
    add_dependencies(celeriac_fuzz ${name})
    add_test(NAME ${name} COMMAND ${name} -max_total_time=${CELERIAC_FUZZ_SECONDS} -timeout=10
        -rss_limit_mb=2048 -print_final_stats=1 ${corpus} ${ARG_SEEDS})
    math(EXPR limit "${CELERIAC_FUZZ_SECONDS} + 120")
    set_tests_properties(${name} PROPERTIES LABELS fuzz TIMEOUT ${limit})
endfunction()
