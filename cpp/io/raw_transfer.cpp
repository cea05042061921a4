// SPDX-License-Identifier: Apache-2.0
#include <lmcache/io/raw_transfer.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <latch>
#include <thread>
#include <utility>
#include <vector>

#include <lmcache/io/io_file.hpp>

namespace lmcache {

Result<double> raw_transfer(RawTransfer const& transfer) {
  LMC_TRY_ASSIGN(auto const opened, open_io_file(transfer.path));
  std::uint64_t const chunks =
      transfer.order.empty() ? 0 : std::uint64_t{*std::ranges::max_element(transfer.order)} + 1;
  LMC_TRY_ASSIGN(auto const allocated,
                 allocate_file(opened.fd.get(), chunks * transfer.chunk_bytes));
  (void)allocated;
  LMC_TRY_ASSIGN(auto const io, make_io(transfer.io, {}));
  LMC_TRY_ASSIGN(IoFile const file, io->add_file(opened.fd.get()));
  std::vector<IoRequest> requests;
  for (std::size_t i = 0; i < transfer.order.size(); ++i) {
    requests.push_back({.op = transfer.op,
                        .file = file,
                        .offset = transfer.order[i] * transfer.chunk_bytes,
                        .data = transfer.data + i * transfer.chunk_bytes,
                        .size_bytes = transfer.chunk_bytes});
  }
  std::latch open{static_cast<std::ptrdiff_t>(requests.size())};
  std::atomic<int> failed{0};
  auto const started = std::chrono::steady_clock::now();
  io->submit(std::move(requests), [&](std::uint32_t, IoAnswer answer) {
    if (!answer.ok()) failed.store(answer.os_error);
    open.count_down();
  });
  open.wait();
  std::chrono::duration<double> const elapsed = std::chrono::steady_clock::now() - started;
  while (io->open_requests() != 0) std::this_thread::yield();
  io->remove_file(file);
  if (int const error = failed.load(); error != 0) {
    return Error{ErrorCode::kIo, transfer.path + ": " + std::strerror(error), error};
  }
  return elapsed.count();
}

}  // namespace lmcache
