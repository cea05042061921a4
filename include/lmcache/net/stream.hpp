// SPDX-License-Identifier: Apache-2.0
// One connection to a server, over TCP, a Unix socket or TLS. Every call has a deadline.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include <lmcache/base/result.hpp>

namespace lmcache {

using Deadline = std::chrono::steady_clock::time_point;

// Externally synchronised, but for shut(). After an error the connection is of no use any more.
// Errors: kTimeout (the deadline passed), kUnavailable (the peer closed, reset or refused; shut()
// was called), kIo (anything else; os_error() is set).
class Stream {
 public:
  Stream() = default;
  Stream(Stream const&) = delete;
  Stream& operator=(Stream const&) = delete;
  virtual ~Stream() = default;

  // At least one byte, at most into.size(), which is not 0. Blocks.
  [[nodiscard]] virtual Result<std::size_t> read_some(std::span<std::byte> into,
                                                      Deadline deadline) = 0;
  // All pieces, in order, however the kernel cuts them. Blocks.
  [[nodiscard]] virtual Result<void> write_all(std::span<std::span<std::byte const> const> pieces,
                                               Deadline deadline) = 0;
  // True when bytes can be read at once or the peer is gone. Never blocks.
  [[nodiscard]] virtual bool readable() = 0;
  // Ends calls that other threads are in, and all later ones. Thread-safe.
  virtual void shut() noexcept = 0;
};

struct TlsOptions {
  std::string ca_file;    // empty: what the system trusts
  std::string cert_file;  // of the client; empty: none
  std::string key_file;
  bool verify = true;  // the server's certificate and its name
};

// Errors: as of Stream; kInvalidArgument (a path too long, a certificate that cannot be read).
// Nagle's algorithm is off, keep-alive is on.
[[nodiscard]] Result<std::unique_ptr<Stream>> connect_tcp(std::string const& host,
                                                          std::uint16_t port, Deadline deadline);
[[nodiscard]] Result<std::unique_ptr<Stream>> connect_unix(std::string const& path,
                                                           Deadline deadline);
// kUnavailable, too, when the server's certificate is not trusted; the message says why.
[[nodiscard]] Result<std::unique_ptr<Stream>> connect_tls(std::string const& host,
                                                          std::uint16_t port,
                                                          TlsOptions const& options,
                                                          Deadline deadline);

}  // namespace lmcache
