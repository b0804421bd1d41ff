/*
 * amqp_lib.h - librabbitmq's headers, from whichever folder this Debian keeps them in.
 *
 * Purpose: the one place that names those headers; every broker/amqp_*.c includes this file
 * instead. librabbitmq 0.11 (Debian 12) has <amqp.h> and its siblings in the include path itself.
 * Since 0.12 (Debian 13 has 0.15) they are in rabbitmq-c/, and the old names only forward with a
 * #warning, which -Werror makes an error; a version macro could not choose, because it is in the
 * header looked for. Model: includes, nothing else. Invariants: what uses them compiles with both
 * versions, so not: amqp_set_initialize_ssl_library, amqp_initialize_ssl_library,
 * amqp_error_string, amqp_set_sockfd, amqp_ssl_socket_set_verify (deprecated in 0.15; the sockets
 * initialise OpenSSL by themselves), nor amqp_ssl_socket_enable_default_verify_paths, AMQP_TLSv1_3,
 * amqp_publisher_confirm_wait (not in 0.11; SSL_CTX_set_default_verify_paths on
 * amqp_ssl_socket_get_context does the first in both). Fork rule: none of its own; a connection
 * belongs to the process and the thread that opened it.
 */
#ifndef BROKER_AMQP_LIB_H
#define BROKER_AMQP_LIB_H

#if __has_include(<rabbitmq-c/amqp.h>)
#include <rabbitmq-c/amqp.h>
#include <rabbitmq-c/framing.h>
#include <rabbitmq-c/ssl_socket.h>
#include <rabbitmq-c/tcp_socket.h>
#else
#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_ssl_socket.h>
#include <amqp_tcp_socket.h>
#endif

#endif
