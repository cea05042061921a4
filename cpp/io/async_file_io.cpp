// SPDX-License-Identifier: Apache-2.0
#include <lmcache/io/async_file_io.hpp>

#include <utility>

namespace lmcache {

void AsyncFileIo::submit(std::vector<IoRequest> batch, IoDone done) {
  if (batch.empty()) return;
  open_.fetch_add(batch.size());
  // Counted down after `done`: who sees 0 may free what `done` refers to.
  do_submit({.requests = std::move(batch),
             .done = [this, done = std::move(done)](std::uint32_t request, IoAnswer answer) {
               if (done) done(request, answer);
               open_.fetch_sub(1);
             }});
}

}  // namespace lmcache
