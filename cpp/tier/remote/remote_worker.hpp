// SPDX-License-Identifier: Apache-2.0
// One connection of the remote tier and the thread that uses it.
#pragma once

#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include <lmcache/tier/remote/remote_tier.hpp>

namespace lmcache {

class RemoteTier::Worker {
 public:
  Worker(RemoteTier& tier, std::uint32_t number) noexcept : tier_{tier}, number_{number} {}

  [[nodiscard]] Result<void> start();
  // Ends what it waits for, and everything that it would begin. Thread-safe.
  void shut() noexcept;
  // After shut(): waits for the thread.
  void join();

 private:
  void run();
  [[nodiscard]] Result<void> connect();
  void try_server();
  void work(Tasks tasks);
  [[nodiscard]] Result<void> ask(std::vector<Ask>& asks);
  [[nodiscard]] Result<void> read(std::vector<Read>& reads);
  [[nodiscard]] Result<void> write(std::vector<Write>& writes);
  // Takes away what failed writes left, those of other connections too.
  [[nodiscard]] Result<void> clean_up(Deadline deadline);
  [[nodiscard]] bool is_shut() const;
  void drop_connection();

  RemoteTier& tier_;
  std::uint32_t const number_;
  std::thread thread_;
  mutable std::mutex mutex_;  // guards the pointer, not what is done with it
  std::unique_ptr<Transport> transport_;
  bool stopped_{false};
};

}  // namespace lmcache
