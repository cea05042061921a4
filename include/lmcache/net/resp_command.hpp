// SPDX-License-Identifier: Apache-2.0
// Commands as RESP sends them. Small arguments are copied into one buffer; large ones stay where
// they are and go out between its parts.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lmcache {

// One command or more, sent at once: batch.begin(3).arg("SET").arg(key).arg_pieces(layers).
// Externally synchronised.
class RespBatch {
 public:
  using Piece = std::span<std::byte const>;
  // Up to this many bytes a copy costs less than an iovec of its own.
  static constexpr std::size_t kMaxCopiedBytes = 1024;

  // Starts a command of `arguments` arguments, its name among them; 1 at least.
  RespBatch& begin(std::size_t arguments);
  // Copied.
  RespBatch& arg(std::string_view argument);
  // One argument that lies in one piece or several, in order. They stay valid and unchanged until
  // the batch was sent or cleared.
  RespBatch& arg(Piece argument);
  RespBatch& arg_pieces(std::span<Piece const> pieces);
  RespBatch& arg_pieces(std::initializer_list<Piece> pieces);

  // What to write, in order; valid until the batch is changed.
  [[nodiscard]] std::vector<Piece> pieces() const;
  // As many replies will come.
  [[nodiscard]] std::size_t commands() const noexcept { return commands_; }
  // Every command has the arguments that begin() announced: only then it may be sent.
  [[nodiscard]] bool complete() const noexcept { return balanced_ && missing_ == 0; }
  // Keeps the memory.
  void clear() noexcept;

 private:
  // `bytes` go out before text_[at].
  struct Insertion {
    std::size_t at;
    Piece bytes;
  };
  void append_count(char type, std::size_t count);

  std::string text_;
  std::vector<Insertion> insertions_;
  std::size_t commands_ = 0;
  std::size_t missing_ = 0;  // arguments of the last command
  bool balanced_ = true;     // the commands before it
};

}  // namespace lmcache
