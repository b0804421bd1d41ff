# One interface target carries the language level, the warnings and the sanitizers to every target of ours.
add_library(celeriac_flags INTERFACE)
target_compile_features(celeriac_flags INTERFACE c_std_11)
target_compile_definitions(celeriac_flags INTERFACE _GNU_SOURCE CELERIAC_VERSION="${PROJECT_VERSION}")
target_include_directories(celeriac_flags INTERFACE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>)
target_compile_options(celeriac_flags INTERFACE
    -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wwrite-strings
    -Wpointer-arith -Wundef -Wformat=2 -fvisibility=hidden -fno-common)
if(CELERIAC_FAULTS)
    target_compile_definitions(celeriac_flags INTERFACE CELERIAC_FAULTS)
endif()
if(CELERIAC_WERROR)
    target_compile_options(celeriac_flags INTERFACE -Werror)
endif()
if(CELERIAC_SANITIZE)
    target_compile_options(celeriac_flags INTERFACE
        -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
    target_link_options(celeriac_flags INTERFACE -fsanitize=address,undefined)
endif()
if(CELERIAC_FUZZ)
    target_compile_options(celeriac_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
