// SPDX-License-Identifier: Apache-2.0
// A redis-server of a test's own, on a Unix socket and a free port, with its files in a folder that
// goes with it.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <lmcache/base/unique_fd.hpp>

#include "support/temp_directory.hpp"

namespace lmcache::test {

// Killed with the thread that started it, and on destruction. Externally synchronised.
class RedisServer {
 public:
  // Where there is none: GTEST_SKIP.
  [[nodiscard]] static bool is_installed() {
    return std::system("command -v redis-server >/dev/null 2>&1") == 0;
  }

  // `args` as on the command line: {"--requirepass", "secret"}; a file of configuration goes first,
  // if there is one. Fails the test when the server does
  // not answer within a minute; running() is false then.
  explicit RedisServer(std::vector<std::string> args = {}) : args_{std::move(args)} {
    // Somebody else may take a free port before the server does.
    for (int attempt = 0; attempt < 3 && !running(); ++attempt) {
      port_ = free_port();
      start();
    }
    EXPECT_TRUE(running()) << "redis-server does not start:\n" << log();
  }
  RedisServer(RedisServer const&) = delete;
  RedisServer& operator=(RedisServer const&) = delete;
  ~RedisServer() { kill(); }

  // Somebody else may take it meanwhile.
  [[nodiscard]] static std::uint16_t free_port() {
    UniqueFd const socket{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* const any = reinterpret_cast<sockaddr*>(&address);
    bool const found =
        ::bind(socket.get(), any, size) == 0 && ::getsockname(socket.get(), any, &size) == 0;
    EXPECT_TRUE(found) << std::strerror(errno);
    return ntohs(address.sin_port);
  }

  [[nodiscard]] bool running() const noexcept { return pid_ > 0; }
  [[nodiscard]] std::uint16_t port() const noexcept { return port_; }
  [[nodiscard]] std::string socket_path() const { return folder_ / "redis.sock"; }
  [[nodiscard]] std::string url() const { return "redis://127.0.0.1:" + std::to_string(port_); }
  [[nodiscard]] std::string socket_url() const { return "unix://" + socket_path(); }
  [[nodiscard]] std::string log() const {
    std::ostringstream out;
    out << std::ifstream{folder_ / "redis.log"}.rdbuf();
    return out.str();
  }

  // Both return when the server runs no more; its connections are closed then.
  void stop() { end(SIGTERM); }
  void kill() { end(SIGKILL); }
  // It keeps its connections and takes new ones (the kernel does), but answers nothing.
  void pause() {
    ::kill(pid_, SIGSTOP);
    siginfo_t info{};
    while (::waitid(P_PID, static_cast<id_t>(pid_), &info, WSTOPPED) != 0 && errno == EINTR) {
    }
  }
  void resume() { ::kill(pid_, SIGCONT); }
  // On the same port and socket; empty.
  void restart() {
    stop();
    start();
    EXPECT_TRUE(running()) << "redis-server does not start again:\n" << log();
  }

 private:
  void start() {
    std::vector<std::string> words{
        "redis-server",        "--bind",      "127.0.0.1", "--port",       std::to_string(port_),
        "--unixsocket",        socket_path(), "--dir",     folder_.path(), "--logfile",
        folder_ / "redis.log", "--save",      "",          "--daemonize",  "no"};
    bool const file = !args_.empty() && !args_.front().starts_with("-");
    words.insert(words.end(), args_.begin() + (file ? 1 : 0), args_.end());
    if (file) words.insert(words.begin() + 1, args_.front());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    pid_t const parent = ::getpid();
    pid_ = ::fork();
    if (pid_ == 0) {  // nothing that takes a lock: other threads may have held one
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      // 0: the parent is outside of our pid namespace.
      if (::getppid() != parent && ::getppid() != 0) ::_exit(127);
      ::execvp(argv[0], argv.data());
      ::_exit(127);
    }
    constexpr int kAttempts = 6000;  // a minute
    for (int i = 0; i < kAttempts; ++i) {
      if (answers()) return;
      if (::waitpid(pid_, nullptr, WNOHANG) == pid_) {
        pid_ = -1;
        return;
      }
      ::poll(nullptr, 0, 10);  // nothing says when it listens
    }
    kill();
  }

  // "+PONG", or "-NOAUTH" where a password is needed; not "-LOADING".
  [[nodiscard]] bool answers() const {
    UniqueFd const socket{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::string const path = socket_path();
    if (path.size() >= sizeof address.sun_path) return false;
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    if (::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
      return false;
    }
    std::string_view const ping = "PING\r\n";
    if (::send(socket.get(), ping.data(), ping.size(), MSG_NOSIGNAL) < 0) return false;
    char reply[5] = {};
    pollfd ready{.fd = socket.get(), .events = POLLIN, .revents = 0};
    if (::poll(&ready, 1, 1000) != 1 || ::recv(socket.get(), reply, sizeof reply, 0) < 5) {
      return false;
    }
    std::string_view const text{reply, sizeof reply};
    return text == "+PONG" || text == "-NOAU";
  }

  void end(int signal) {
    if (pid_ <= 0) return;
    ::kill(pid_, signal);
    ::kill(pid_, SIGCONT);  // one that is paused does not see the first
    while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
  }

  std::vector<std::string> args_;
  TempDirectory folder_;
  std::uint16_t port_ = 0;
  pid_t pid_ = -1;
};

}  // namespace lmcache::test
