// An SSH server of libssh on loopback, for the tests of sshtunnel: one public key may log in, open
// connections (direct-tcpip) and run commands. Arguments: private host key, authorized_keys. It
// prints its port, serves each connection in a process of its own, and ends with its stdin.
#include <arpa/inet.h>
#include <libssh/callbacks.h>
#include <libssh/libssh.h>
#include <libssh/server.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static ssh_key authorized;
static ssh_event event;

// connect_to returns a connected socket, or -1.
static int connect_to(const char *host, int port) {
  char service[16];
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list;
  snprintf(service, sizeof service, "%d", port);
  if (getaddrinfo(host, service, &hints, &list) != 0) return -1;
  int fd = socket(list->ai_family, list->ai_socktype, 0);
  if (connect(fd, list->ai_addr, list->ai_addrlen) != 0) {
    close(fd);
    fd = -1;
  }
  freeaddrinfo(list);
  return fd;
}

// direct_tcpip carries a channel to a socket and back.
static void direct_tcpip(ssh_session session, ssh_message m) {
  int fd = connect_to(ssh_message_channel_request_open_destination(m),
                      ssh_message_channel_request_open_destination_port(m));
  ssh_channel channel = fd < 0 ? NULL : ssh_message_channel_request_open_reply_accept(m);
  if (channel == NULL) {
    ssh_message_reply_default(m);
    return;
  }
  ssh_connector in = ssh_connector_new(session), out = ssh_connector_new(session);
  ssh_connector_set_in_fd(in, fd);
  ssh_connector_set_out_channel(in, channel, SSH_CONNECTOR_STDOUT);
  ssh_connector_set_in_channel(out, channel, SSH_CONNECTOR_STDOUT);
  ssh_connector_set_out_fd(out, fd);
  ssh_event_add_connector(event, in);
  ssh_event_add_connector(event, out);
}

// run answers a command with its output and its status.
static void run(ssh_message m) {
  ssh_channel channel = ssh_message_channel_request_channel(m);
  FILE *p = popen(ssh_message_channel_request_command(m), "r");
  char buf[4096];
  size_t n;
  ssh_message_channel_request_reply_success(m);
  while ((n = fread(buf, 1, sizeof buf, p)) > 0) ssh_channel_write(channel, buf, n);
  int status = pclose(p);
  ssh_channel_request_send_exit_status(channel, WEXITSTATUS(status));
  ssh_channel_send_eof(channel);
  ssh_channel_close(channel);
}

// on_message returns 1 for what libssh is to answer itself.
static int on_message(ssh_session session, ssh_message m, void *data) {
  int type = ssh_message_type(m), subtype = ssh_message_subtype(m);
  if (type == SSH_REQUEST_AUTH && subtype == SSH_AUTH_METHOD_PUBLICKEY &&
      ssh_key_cmp(ssh_message_auth_pubkey(m), authorized, SSH_KEY_CMP_PUBLIC) == 0) {
    enum ssh_publickey_state_e state = ssh_message_auth_publickey_state(m);
    if (state == SSH_PUBLICKEY_STATE_NONE) ssh_message_auth_reply_pk_ok_simple(m);
    else if (state == SSH_PUBLICKEY_STATE_VALID) ssh_message_auth_reply_success(m, 0);
    else return 1;
    return 0;
  }
  if (type == SSH_REQUEST_AUTH) {
    ssh_message_auth_set_methods(m, SSH_AUTH_METHOD_PUBLICKEY);
    return 1;
  }
  if (type == SSH_REQUEST_CHANNEL_OPEN && subtype == SSH_CHANNEL_DIRECT_TCPIP) {
    direct_tcpip(session, m);
    return 0;
  }
  if (type == SSH_REQUEST_CHANNEL_OPEN && subtype == SSH_CHANNEL_SESSION) {
    return ssh_message_channel_request_open_reply_accept(m) == NULL;
  }
  if (type == SSH_REQUEST_CHANNEL && subtype == SSH_CHANNEL_REQUEST_EXEC) {
    run(m);
    return 0;
  }
  return 1;
}

static void serve(ssh_bind sshbind, int fd) {
  ssh_session session = ssh_new();
  if (ssh_bind_accept_fd(sshbind, session, fd) != SSH_OK) exit(1);
  ssh_set_message_callback(session, on_message, NULL);
  if (ssh_handle_key_exchange(session) != SSH_OK) exit(1);
  event = ssh_event_new();
  ssh_event_add_session(event, session);
  while (ssh_is_connected(session) && ssh_event_dopoll(event, -1) != SSH_ERROR) {
  }
  exit(0);
}

int main(int argc, char **argv) {
  struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof addr;
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  char text[1024], type[64], key[900];
  FILE *f = fopen(argv[2], "r");
  if (argc != 3 || f == NULL || fgets(text, sizeof text, f) == NULL || sscanf(text, "%63s %899s", type, key) != 2 ||
      ssh_pki_import_pubkey_base64(key, ssh_key_type_from_name(type), &authorized) != SSH_OK) return 1;
  ssh_bind sshbind = ssh_bind_new();
  ssh_bind_options_set(sshbind, SSH_BIND_OPTIONS_HOSTKEY, argv[1]);
  if (bind(listener, (struct sockaddr *)&addr, size) != 0 || listen(listener, 16) != 0 ||
      getsockname(listener, (struct sockaddr *)&addr, &size) != 0) return 1;
  signal(SIGCHLD, SIG_IGN);
  printf("%d\n", ntohs(addr.sin_port));
  fflush(stdout);
  for (struct pollfd p[2] = {{.fd = 0, .events = POLLIN}, {.fd = listener, .events = POLLIN}}; poll(p, 2, -1) >= 0;) {
    if (p[0].revents != 0) return 0; // our stdin has ended
    int fd = accept(listener, NULL, NULL);
    if (fd >= 0 && fork() == 0) {
      signal(SIGCHLD, SIG_DFL);
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      serve(sshbind, fd);
    }
    if (fd >= 0) close(fd);
  }
  return 1;
}
