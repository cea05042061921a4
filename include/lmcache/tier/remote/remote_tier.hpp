// SPDX-License-Identifier: Apache-2.0
// Chunks in a store that other nodes share: read into and written from slots in memory by a few
// threads, one connection each. Never in the way: a server that fails is left alone until it
// answers again, and every wait has a deadline.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include <lmcache/base/clock.hpp>
#include <lmcache/base/log.hpp>
#include <lmcache/base/result.hpp>
#include <lmcache/base/transfer_meter.hpp>
#include <lmcache/tier/remote/breaker.hpp>
#include <lmcache/tier/remote/presence.hpp>
#include <lmcache/tier/remote/transport.hpp>

namespace lmcache {

struct RemoteOptions {
  std::string name{};             // for messages: the URL without its password
  std::uint32_t connections = 4;  // and threads, and one more that only asks; one never writes
  std::uint32_t ttl_seconds = 0;  // of what is written; 0 = for ever
  bool overwrites = false;        // writes without asking whether somebody has
  bool cheap_asks = false;        // for hundreds of keys a server needs less than a millisecond
  std::chrono::milliseconds lookup_deadline{200};
  std::chrono::milliseconds transfer_deadline{10'000};  // from when it was asked for
  std::chrono::milliseconds presence_kept{5'000};
};

struct RemoteStatus {
  bool connected = false;
  std::string last_error;  // empty: none so far
  std::uint64_t failures = 0;
  std::uint64_t lookup_ns = 0;  // the last one's round trip; 0 = none yet
  std::uint64_t read_bytes_per_s = 0;
  std::uint64_t write_bytes_per_s = 0;
};

// Thread-safe. Callbacks come once each, on a thread of the tier or within the call, and must not
// block.
class RemoteTier {
 public:
  using ReadDone = std::function<void(std::uint32_t item, TierOutcome outcome)>;
  using WriteDone = std::function<void(TierOutcome outcome)>;

  // Returns before there is a connection. `clock` must outlive the tier. Errors: kUnavailable (no
  // thread to be had).
  [[nodiscard]] static Result<std::unique_ptr<RemoteTier>> open(RemoteOptions options,
                                                                TransportFactory connect,
                                                                Clock const& clock, LogHook log);
  // Answers everything; waits for no server.
  ~RemoteTier();
  RemoteTier(RemoteTier&&) = delete;

  [[nodiscard]] bool usable() const noexcept { return breaker_.closed(); }
  [[nodiscard]] bool asks_are_cheap() const noexcept { return options_.cheap_asks; }

  // What is known of chunks without asking: bytes of the record there, 0 = not there, nothing = not
  // known. All 0 while the server is left alone.
  void find(std::span<ChunkKey const> keys, std::span<std::optional<std::uint64_t>> out) const;
  // Asks for all keys at once; find() knows them when `done` is called, unless asking failed.
  void ask(std::vector<ChunkKey> keys, std::function<void()> done);
  void read(std::vector<RemoteGet> items, std::span<std::uint64_t const> sizes, ReadDone done);
  // The record must stay as it is until `done`. kDuplicate: somebody wrote it before.
  void write(RemotePut item, WriteDone done);
  // True: everything handed over before was answered. Blocks.
  [[nodiscard]] bool drain(std::chrono::milliseconds timeout);
  void forget_answers() { presence_.forget_all(); }

  [[nodiscard]] RemoteStatus status() const;
  [[nodiscard]] std::uint64_t read_bytes_per_s() const noexcept;
  // Of a read, until it is answered. Only a transport that cannot let go of a slot takes longer
  // (transport_queue.hpp); nobody needs to wait for that.
  [[nodiscard]] std::chrono::milliseconds longest_read() const noexcept {
    return options_.transfer_deadline;
  }
  [[nodiscard]] std::uint64_t queued_read_bytes() const { return reads_.open_bytes(); }
  // Reads that were given up had brought so much in that time.
  void report_slow(std::uint64_t arrived_bytes, std::uint64_t elapsed_ns);
  // Somebody went without a chunk because of that speed: it is measured again after a while.
  void doubt_speed() noexcept;

 private:
  struct ReadBatch {
    ReadDone done;
  };
  struct Ask {
    std::vector<ChunkKey> keys;
    std::function<void()> done;
    Deadline deadline;
  };
  struct Read {
    RemoteGet item;
    std::uint64_t size_bytes;
    std::uint32_t number;
    std::shared_ptr<ReadBatch> batch;
    Deadline deadline;
  };
  struct Write {
    RemotePut item;
    WriteDone done;
    Deadline deadline;
  };
  struct Tasks {
    std::vector<Ask> asks;
    std::vector<Read> reads;
    std::vector<Write> writes;
    [[nodiscard]] std::size_t size() const noexcept {
      return asks.size() + reads.size() + writes.size();
    }
  };
  class Worker;

  RemoteTier(RemoteOptions options, TransportFactory connect, Clock const& clock, LogHook log);
  [[nodiscard]] Result<void> start();
  [[nodiscard]] std::optional<Tasks> next(std::uint32_t worker);
  [[nodiscard]] Tasks take_asks();
  [[nodiscard]] Tasks take(bool writes);
  void finished(std::size_t tasks);
  void answer(Read& read, TierOutcome outcome);
  void answer(Write& write, TierOutcome outcome);
  void give_up(Tasks tasks);
  void note_failure(Error const& error);
  // Writes that did not end well, of records in several parts, for whoever has a connection next.
  struct Unfinished {
    std::vector<ChunkKey> keys;
    std::vector<std::uint64_t> record_bytes;
  };
  void leave(Unfinished unfinished);
  [[nodiscard]] Unfinished take_unfinished();
  void note_success();

  RemoteOptions const options_;
  TransportFactory const connect_;
  Clock const& clock_;
  LogHook const log_;
  Breaker breaker_;
  Presence presence_;
  TransferMeter reads_;
  TransferMeter writes_;
  std::atomic<std::uint64_t> lookup_ns_{0};
  std::atomic<std::uint64_t> read_bytes_per_s_{0};
  std::atomic<std::uint64_t> write_bytes_per_s_{0};
  std::atomic<std::int64_t> speed_until_ns_{0};  // the speed is believed until then; 0: always

  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::deque<Ask> asks_;
  std::deque<Read> reads_waiting_;
  std::deque<Write> writes_waiting_;
  std::size_t open_{0};
  std::string last_error_;
  std::uint64_t failures_{0};
  Unfinished unfinished_;
  bool stop_{false};
  std::vector<std::unique_ptr<Worker>> workers_;
};

}  // namespace lmcache
