option(CELERIAC_VALGRIND "Run every test program under valgrind" OFF)
set(celeriac_valgrind valgrind -q --vgdb=no --error-exitcode=97 --leak-check=full
    --errors-for-leak-kinds=definite --trace-children=yes
    --trace-children-skip=*/redis-server,*/redis-cli,*/python3*,*/sh)

set(celeriac_own_tmp /usr/bin/python3 ${CMAKE_CURRENT_LIST_DIR}/own_tmp.py)

# Words that run a command with the rabbitmq-server all tests share; celeriac_needs_rabbitmq(test...) starts and stops it around them.
set(celeriac_rabbitmq /usr/bin/python3 ${CMAKE_CURRENT_LIST_DIR}/with_rabbitmq.py --state ${PROJECT_BINARY_DIR}/rabbitmq)
set(celeriac_with_rabbitmq ${celeriac_rabbitmq} --)
add_test(NAME rabbitmq_start COMMAND ${celeriac_rabbitmq} --start)
add_test(NAME rabbitmq_stop COMMAND ${celeriac_rabbitmq} --stop)
set_tests_properties(rabbitmq_start PROPERTIES LABELS fixture TIMEOUT 180 FIXTURES_SETUP rabbitmq)
set_tests_properties(rabbitmq_stop PROPERTIES LABELS fixture TIMEOUT 180 FIXTURES_CLEANUP rabbitmq)
function(celeriac_needs_rabbitmq)
    set_tests_properties(${ARGN} PROPERTIES FIXTURES_REQUIRED rabbitmq SKIP_RETURN_CODE 77)
endfunction()

# celeriac_run_test(LABEL name timeout target [AMQP] [argument...]): a program of ours as a test, under valgrind when that is
# asked for. AMQP: it finds a rabbitmq-server by CELERIAC_TEST_AMQP_URL and is skipped where there is none.
function(celeriac_run_test label name timeout target)
    cmake_parse_arguments(ARG "AMQP" "" "" ${ARGN})
    set(words)
    if(ARG_AMQP)
        list(APPEND words ${celeriac_with_rabbitmq})
    endif()
    if(CELERIAC_VALGRIND)
        math(EXPR timeout "${timeout} * 10")
        list(APPEND words ${celeriac_valgrind})
    endif()
    add_test(NAME ${name} COMMAND ${words} $<TARGET_FILE:${target}> ${ARG_UNPARSED_ARGUMENTS})
    set_tests_properties(${name} PROPERTIES LABELS ${label} TIMEOUT ${timeout})
    if(ARG_AMQP)
        celeriac_needs_rabbitmq(${name})
    endif()
endfunction()

# celeriac_test(LABEL name sources... [AMQP] [LIBS libraries...] [TIMEOUT seconds])
# Builds one cmocka program and registers it with ctest under LABEL.
function(celeriac_test label name)
    cmake_parse_arguments(ARG "AMQP" "TIMEOUT" "LIBS" ${ARGN})
    set(amqp)
    if(ARG_AMQP)
        set(amqp AMQP)
    endif()
    if(NOT ARG_TIMEOUT)
        set(ARG_TIMEOUT 60)
    endif()
    add_executable(${name} ${ARG_UNPARSED_ARGUMENTS})
    target_compile_definitions(${name} PRIVATE
        TEST_SOURCE_DIR="${PROJECT_SOURCE_DIR}/tests" TEST_BINARY_DIR="${PROJECT_BINARY_DIR}")
    if(CELERIAC_VALGRIND)
        target_compile_definitions(${name} PRIVATE CELERIAC_VALGRIND=1) # some do less then
    endif()
    target_link_libraries(${name} PRIVATE celeriac_flags ${ARG_LIBS} PkgConfig::CMOCKA)
    celeriac_run_test(${label} ${name} ${ARG_TIMEOUT} ${name} ${amqp})
endfunction()

# celeriac_unit_test(name sources... [LIBS libraries...])
macro(celeriac_unit_test)
    celeriac_test(unit ${ARGN})
endmacro()

# celeriac_script_test(LABEL name [AMQP] command...): a script whose exit status is the verdict; 77 means skipped. It runs with a
# temporary directory of its own. AMQP: it may use the shared rabbitmq-server (harness.broker("amqp")); a script that stops or
# kills one starts its own and needs no AMQP.
function(celeriac_script_test label name)
    set(words ${ARGN})
    list(FIND words AMQP amqp)
    if(amqp EQUAL 0)
        list(REMOVE_AT words 0)
        list(PREPEND words ${celeriac_with_rabbitmq})
    endif()
    add_test(NAME ${name} COMMAND ${celeriac_own_tmp} ${words} WORKING_DIRECTORY ${PROJECT_BINARY_DIR})
    set_tests_properties(${name} PROPERTIES LABELS "${label};script" TIMEOUT 300
        SKIP_RETURN_CODE 77)
    if(amqp EQUAL 0)
        celeriac_needs_rabbitmq(${name})
    endif()
    if(CELERIAC_VALGRIND)
        # The harness runs celeriac under valgrind and reads from here what it found.
        set(findings ${PROJECT_BINARY_DIR}/valgrind/${name})
        file(MAKE_DIRECTORY ${findings})
        set_tests_properties(${name} PROPERTIES TIMEOUT 3000 ENVIRONMENT CELERIAC_VALGRIND=${findings})
    endif()
endfunction()

# celeriac_fuzz_test(name sources... [LIBS libraries...] [SEEDS folders...])
# A libFuzzer program, built only with CELERIAC_FUZZ and run for CELERIAC_FUZZ_SECONDS; new inputs go
# to a folder of the build tree, the seeds stay as they are.
set(CELERIAC_FUZZ_SECONDS 20 CACHE STRING "How long a fuzz target runs as a test")
add_custom_target(celeriac_fuzz)
function(celeriac_fuzz_test name)
    if(NOT CELERIAC_FUZZ)
        return()
    endif()
    cmake_parse_arguments(ARG "" "" "LIBS;SEEDS" ${ARGN})
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
