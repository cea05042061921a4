// SPDX-License-Identifier: Apache-2.0
#include <lmcache/net/resp_command.hpp>

#include <charconv>

namespace lmcache {
namespace {

constexpr std::string_view kLineEnd = "\r\n";

}  // namespace

void RespBatch::append_count(char type, std::size_t count) {
  char digits[20];  // of 2^64 - 1
  auto const end = std::to_chars(digits, digits + sizeof digits, count).ptr;
  text_.append(1, type).append(digits, end).append(kLineEnd);
}

RespBatch& RespBatch::begin(std::size_t arguments) {
  balanced_ = complete() && arguments != 0;
  missing_ = arguments;
  ++commands_;
  append_count('*', arguments);
  return *this;
}

RespBatch& RespBatch::arg(std::string_view argument) {
  if (missing_ == 0) balanced_ = false;
  --missing_;
  append_count('$', argument.size());
  text_.append(argument).append(kLineEnd);
  return *this;
}

RespBatch& RespBatch::arg(Piece argument) { return arg_pieces({argument}); }

RespBatch& RespBatch::arg_pieces(std::initializer_list<Piece> pieces) {
  return arg_pieces(std::span<Piece const>{pieces.begin(), pieces.size()});
}

RespBatch& RespBatch::arg_pieces(std::span<Piece const> pieces) {
  if (missing_ == 0) balanced_ = false;
  --missing_;
  std::size_t total_bytes = 0;
  for (Piece const& piece : pieces) total_bytes += piece.size();
  append_count('$', total_bytes);
  for (Piece const& piece : pieces) {
    if (piece.size() <= kMaxCopiedBytes) {
      text_.append(reinterpret_cast<char const*>(piece.data()), piece.size());
    } else {
      insertions_.push_back({.at = text_.size(), .bytes = piece});
    }
  }
  text_.append(kLineEnd);
  return *this;
}

std::vector<RespBatch::Piece> RespBatch::pieces() const {
  std::vector<Piece> out;
  out.reserve(2 * insertions_.size() + 1);
  Piece const text = std::as_bytes(std::span{text_});
  std::size_t written = 0;
  for (Insertion const& insertion : insertions_) {
    if (insertion.at != written) out.push_back(text.subspan(written, insertion.at - written));
    out.push_back(insertion.bytes);
    written = insertion.at;
  }
  if (written != text.size()) out.push_back(text.subspan(written));
  return out;
}

void RespBatch::clear() noexcept {
  text_.clear();
  insertions_.clear();
  commands_ = 0;
  missing_ = 0;
  balanced_ = true;
}

}  // namespace lmcache
