#include "wire/session.h"

#include <unistd.h>

#include <algorithm>

#include "machine/format_text.h"
#include "replay/disk_store.h"
#include "replay/file.h"
#include "replay/sha256.h"

namespace node_mesh {
namespace {

using nlohmann::json;

constexpr std::uint64_t image_bytes_max = 3ull << 30;
constexpr std::uint64_t wait_ns_max = 1'000'000'000;
constexpr std::uint64_t drain_ns_max = 2'000'000'000;  // for last words to a slow node
constexpr std::size_t output_frame_bytes = 1 << 20;
constexpr std::size_t frames_bytes_high = 1 << 20;

// A follower elsewhere waits for these chunks, and a person for the output behind them.
constexpr RecorderOptions live_options{
    .event_wait_ns_max = 20'000'000, .output_wait_ns_max = 0, .flush_when_idle = true};

}  // namespace

Session::~Session() {
  channel_.set_kick(nullptr);
  ticker_.reset();
}

int Session::run() {
  send_control("hello", {{"wire", wire_version}, {"log", log_version}, {"pid", ::getpid()}});
  while (!shutdown_ && !channel_.closed()) {
    look_after_checkpoint();
    if (auto arrival = channel_.take()) {
      if (auto handled = handle(std::move(*arrival)); !handled) {
        send_control("error", {{"message", handled.error()}});
        channel_.drain(drain_ns_max);
        return 1;
      }
    } else if (state_ == State::live) {
      run_live();
      if (!machine_->host_failure().empty()) {
        send_control("error", {{"message", machine_->host_failure()}});
        channel_.drain(drain_ns_max);
        return 1;
      }
    } else {
      channel_.wait(wait_ns_max);
    }
  }
  const std::string error = channel_.error();
  if (!error.empty()) send_control("error", {{"message", "Cannot read from the node: " + error}});
  channel_.drain(drain_ns_max);
  return error.empty() ? 0 : 1;
}

Session::Outcome Session::handle(Channel::Arrival arrival) {
  arrival_host_ns_ = arrival.host_ns;
  if (std::holds_alternative<ChunkFrame>(arrival.frame)) last_chunk_host_ns_ = arrival.host_ns;
  return std::visit([&](auto& frame) { return on(frame); }, arrival.frame);
}

Session::Outcome Session::on(StartFrame& start) {
  if (state_ != State::fresh) return std::unexpected("Cannot start twice");
  auto created = start.checkpoint ? restore_machine(start) : create_machine(start);
  if (!created) return created;
  auto engine = give_engine(*machine_, start.engine);
  if (!engine) return std::unexpected(engine.error());
  engine_ = std::move(*engine);
  machine_->set_network_sink(this);
  initial_ns_per_step_ = start.config.initial_ns_per_step;
  config_ = start.config;
  if (!digest_) digest_.emplace(machine_->memory().page_count());
  replayer_.emplace(*machine_, *digest_, true);
  if (restored_from_) {
    replayer_->start(
        {restored_from_->chunk, restored_from_->ns_per_step(), restored_from_->inputs});
    // Without a chunk of its own to go by, time goes on from here.
    last_chunk_host_ns_ = clock_.now_ns();
  }
  replayer_->set_observer(this);
  channel_.set_kick([this] { replayer_->interrupt(); });
  state_ = State::following;
  send_control("ready", {{"engine", engine_.name},
                         {"engine_why", engine_.why},
                         {"chunk", replayer_->next_chunk()},
                         {"console_bytes", machine_->console_bytes()}});
  return {};
}

Session::Outcome Session::create_machine(const StartFrame& start) {
  const auto load = [](const char* what, const std::string& path,
                       const Sha256& name) -> std::expected<Bytes, std::string> {
    const auto cannot = [&](const std::string& why) {
      return std::unexpected("Cannot read " + std::string(what) + " \"" + path + "\": " + why);
    };
    auto bytes = read_file(path, image_bytes_max);
    if (!bytes) return cannot(bytes.error());
    if (sha256_of(*bytes) != name) return cannot("its content is not what the log was made with");
    return bytes;
  };
  auto kernel = load("kernel", start.kernel, start.config.kernel_sha256);
  if (!kernel) return std::unexpected(kernel.error());
  Bytes initrd;
  if (start.initrd.has_value() != (start.config.initrd_sha256 != Sha256{})) {
    return std::unexpected(
        "Cannot start: initrd and config.initrd_sha256 must both be there or not");
  }
  if (start.initrd) {
    auto loaded = load("initrd", *start.initrd, start.config.initrd_sha256);
    if (!loaded) return std::unexpected(loaded.error());
    initrd = std::move(*loaded);
  }
  const auto scratch =
      start.disks.empty() ? std::filesystem::path() : start.disks.front().parent_path();
  auto disks = open_disks(start.config, start.disks, scratch);
  if (!disks) return std::unexpected(disks.error());
  auto machine = Machine::create(start.config, *kernel, initrd, *this, std::move(*disks));
  if (!machine) return std::unexpected(machine.error());
  machine_ = std::move(*machine);
  return {};
}

Session::Outcome Session::on(ChunkFrame& frame) {
  if (state_ == State::diverged) return {};  // of no use, but the node may still be sending
  if (state_ != State::following) return std::unexpected("Cannot follow a chunk in this state");
  const auto chunk = decode_chunk(frame.bytes);
  if (!chunk) return std::unexpected("Cannot follow a chunk: " + chunk.error());
  for (;;) {
    const auto status = replayer_->apply(*chunk);
    if (!status) return std::unexpected("Cannot follow a chunk: " + status.error());
    if (*status == Replayer::Status::host_failed) {
      return std::unexpected(machine_->host_failure());
    }
    if (*status == Replayer::Status::interrupted) {
      if (channel_.closed()) return {};
      continue;
    }
    send_what_waited();
    if (*status == Replayer::Status::diverged) {
      state_ = State::diverged;
      send_control("diverged", json_of_divergence(replayer_->divergence()));
      return {};
    }
    send_progress(false);
    if (*status == Replayer::Status::ended) {
      send_progress(true);
      state_ = State::ended;
      send_ended(*replayer_->end());
    }
    return {};
  }
}

Session::Outcome Session::on(const GoLiveFrame&) {
  if (state_ == State::ended || state_ == State::diverged) return {};  // it was told, and why
  if (state_ != State::following) return std::unexpected("Cannot go live in this state");
  const std::uint64_t now_ns = clock_.now_ns();
  recorder_.emplace(*machine_, *digest_, clock_, live_options, static_cast<ChunkSink*>(this));
  const std::uint64_t rate = replayer_->ns_per_step();
  recorder_->start({replayer_->next_chunk(),
                    replayer_->next_chunk() == 0 ? now_ns : last_chunk_host_ns_,
                    rate == 0 ? initial_ns_per_step_ : rate, replayer_->inputs(),
                    replayer_->inside_preemption()});
  ticker_.emplace([this] { recorder_->tick(); });
  channel_.set_kick([this] { recorder_->kick(); });
  state_ = State::live;
  const Position at = machine_->position();
  send_control(
      "live",
      {{"steps", at.steps}, {"user_steps", at.user_steps}, {"chunk", replayer_->next_chunk()}});
  return {};
}

Session::Outcome Session::on(const InputFrame& input) {
  if (state_ == State::ended || state_ == State::diverged) return {};
  if (state_ != State::live) return std::unexpected("Cannot take input: this copy is not live");
  const auto accepted = recorder_->input(input.source, input.seq, input.bytes);
  applied_.push_back({input.source, input.seq, accepted.value_or(0)});
  // One that was applied before makes no event, so there may be no chunk to acknowledge it behind.
  if (!accepted) {
    recorder_->flush();
    send_what_waited();
  }
  return {};
}

Session::Outcome Session::on(NetworkFrame& frame) {
  if (state_ == State::ended || state_ == State::diverged) return {};
  if (state_ != State::live) return std::unexpected("Cannot take a frame: this copy is not live");
  if (!recorder_->frame(frame.source, frame.seq, std::move(frame.bytes))) {
    send_control("frame_applied",
                 {{"source", frame.source}, {"seq", frame.seq}, {"accepted", false}});
  }
  return {};
}

Session::Outcome Session::on(const PowerButtonFrame&) {
  if (state_ == State::ended || state_ == State::diverged) return {};
  if (state_ != State::live) {
    return std::unexpected("Cannot press the power button: this copy is not live");
  }
  recorder_->press_power_button();
  return {};
}

Session::Outcome Session::on(const StopFrame&) {
  if (state_ == State::ended || state_ == State::diverged) return {};
  if (state_ != State::live) return std::unexpected("Cannot stop: this copy is not live");
  recorder_->stop();
  finish(EndReason::stopped);
  return {};
}

Session::Outcome Session::on(const CommittedFrame& committed) {
  if (state_ == State::diverged) return {};  // it stopped counting
  if (committed.chunk >= next_chunk()) {
    return std::unexpected("Cannot take chunk " + std::to_string(committed.chunk) +
                           " as committed: there is none");
  }
  while (!uncommitted_.empty() && uncommitted_.front().number <= committed.chunk) {
    const Uncommitted& chunk = uncommitted_.front();
    uncommitted_bytes_ -= chunk.bytes;
    if (chunk.output_host_ns != 0) output_delay_.add(arrival_host_ns_ - chunk.output_host_ns);
    uncommitted_.pop_front();
  }
  look_after_checkpoint();
  return {};
}

Session::Outcome Session::on(const StatsFrame&) {
  json fields = {{"engine", engine_.name}, {"uncommitted_bytes", uncommitted_bytes_}};
  if (machine_) {
    const RunTotals& totals = recorder_ ? recorder_->totals() : replayer_->totals();
    const auto& digest =
        recorder_ && recorder_->last_digest() ? recorder_->last_digest() : replayer_->last_digest();
    json events = json::object();
    for (const auto& [kind, count] : totals.events)
      events[std::string(kind)] = count;
    fields["steps"] = machine_->position().steps;
    fields["user_steps"] = machine_->position().user_steps;
    fields["guest_ns"] = machine_->guest_ns();
    fields["chunk"] = next_chunk();
    fields["events"] = events;
    fields["console_bytes"] = machine_->console_bytes();
    fields["digests_compared"] = replayer_->digests_compared();
    fields["digest"] =
        digest
            ? json(format_text("%016llx", static_cast<unsigned long long>(digest_summary(*digest))))
            : json();
  }
  send_control("stats", std::move(fields));
  return {};
}

Session::Outcome Session::on(const ShutdownFrame&) {
  shutdown_ = true;
  return {};
}

bool Session::must_wait() const {
  if (channel_.congested() || uncommitted_bytes_ > uncommitted_bytes_max) return true;
  return !uncommitted_.empty() &&
         clock_.now_ns() - uncommitted_.front().host_ns > uncommitted_ns_max;
}

void Session::run_live() {
  const std::uint64_t start_ns = clock_.now_ns();
  if (must_wait()) {
    ticker_->disarm();
    channel_.wait(wait_ns_max);
    recorder_->slept(clock_.now_ns() - start_ns);
    return;
  }
  ticker_->arm();
  const Recorder::Pause pause = recorder_->run();
  idle_ = pause == Recorder::Pause::idle;
  send_progress(false);
  if (pause == Recorder::Pause::ended) {
    finish(Recorder::reason_of(machine_->end()));
    return;
  }
  if (!idle_) return;
  ticker_->disarm();
  const std::uint64_t wake_ns = std::min(recorder_->wake_host_ns(), recorder_->flush_host_ns());
  const std::uint64_t now_ns = clock_.now_ns();
  if (wake_ns <= now_ns) return;
  channel_.wait(std::min(wake_ns - now_ns, wait_ns_max));
  recorder_->slept(clock_.now_ns() - now_ns);
}

void Session::finish(EndReason reason) {
  ticker_->disarm();
  recorder_->finish(reason);
  send_what_waited();
  send_progress(true);
  state_ = State::ended;
  send_ended(reason);
}

void Session::send_ended(EndReason reason) {
  json fields = {{"reason", end_reason_name(reason)}};
  const std::string report = machine_->report();
  if (!report.empty()) fields["report"] = report;
  send_control("ended", std::move(fields));
}

void Session::send_control(const char* kind, json fields) {
  channel_.send(encode_control(kind, std::move(fields)));
}

std::uint64_t Session::next_chunk() const {
  if (recorder_) return recorder_->next_chunk();
  return replayer_ ? replayer_->next_chunk() : 0;
}

void Session::send_what_waited() {
  for (std::size_t start = 0; start < output_.size(); start += output_frame_bytes) {
    const std::size_t count = std::min(output_.size() - start, output_frame_bytes);
    channel_.send(encode_output_frame(output_offset_ + start,
                                      std::span<const std::byte>(output_).subspan(start, count)));
  }
  output_.clear();
  for (const AppliedInput& input : applied_) {
    send_control("input_applied",
                 {{"source", input.source}, {"seq", input.seq}, {"accepted", input.accepted}});
  }
  applied_.clear();
  send_frames();
  for (const Recorder::FrameResult& result : frame_results_) {
    send_control("frame_applied",
                 {{"source", result.source}, {"seq", result.seq}, {"accepted", result.accepted}});
  }
  frame_results_.clear();
}

void Session::send_frames() {
  for (Bytes& frame : frames_)
    channel_.send(std::move(frame));
  frames_.clear();
  frames_bytes_ = 0;
}

void Session::network_output(std::uint64_t number, std::span<const std::byte> frame) {
  if (frames_.empty()) said();
  frames_.push_back(encode_network_frame(number, frame));
  frames_bytes_ += frame.size();
  if (frames_bytes_ < frames_bytes_high) return;
  // A live copy closes its chunk, behind which they go; one that follows has it already.
  if (recorder_) {
    recorder_->kick();
  } else {
    send_frames();
  }
}

void Session::send_progress(bool at_once) {
  const std::uint64_t now_ns = clock_.now_ns();
  // A follower says after each batch how far it is, a live one once a second.
  const std::uint64_t interval_ns = recorder_ ? progress_interval_ns : progress_interval_ns / 10;
  if (!at_once && progress_sent_ && now_ns - progress_host_ns_ < interval_ns &&
      (recorder_ || channel_.has_incoming())) {
    return;
  }
  const Position at = machine_->position();
  const std::pair state(at, next_chunk());
  if (progress_sent_ == state) return;
  progress_sent_ = state;
  progress_host_ns_ = now_ns;
  json fields = {{"steps", at.steps},
                 {"guest_ns", machine_->guest_ns()},
                 {"chunk", next_chunk()},
                 {"console_bytes", machine_->console_bytes()},
                 {"uncommitted_bytes", uncommitted_bytes_},
                 {"idle", idle_}};
  if (const auto delay = output_delay_.summary(); delay.count > 0) {
    fields["output_delay_us"] = {
        {"p50", delay.median_us}, {"p99", delay.p99_us}, {"count", delay.count}};
  }
  send_control("progress", std::move(fields));
}

// While nothing else is on its way to be committed, this is, at once; what comes meanwhile waits
// for company.
void Session::said() {
  if (recorder_ && uncommitted_.empty()) recorder_->said();
}

void Session::console_output(std::uint64_t offset, std::span<const std::byte> bytes) {
  if (output_.empty()) {
    output_offset_ = offset;
    output_host_ns_ = clock_.now_ns();
    said();
  }
  output_.insert(output_.end(), bytes.begin(), bytes.end());
}

void Session::chunk(std::uint64_t number, Bytes bytes) {
  uncommitted_.push_back(
      {number, bytes.size(), clock_.now_ns(), output_.empty() ? 0 : output_host_ns_});
  uncommitted_bytes_ += bytes.size();
  channel_.send(encode_frame(FrameType::chunk, bytes));
  const auto results = recorder_->take_frame_results();
  frame_results_.insert(frame_results_.end(), results.begin(), results.end());
  send_what_waited();
}

void Session::replayed(const Event& event) {
  if (const auto* input = std::get_if<InputEvent>(&event.body)) {
    applied_.push_back({input->source, input->seq, input->bytes.size()});
  } else if (const auto* frame = std::get_if<FrameEvent>(&event.body)) {
    frame_results_.push_back({frame->source, frame->seq, true});
  }
}

}  // namespace node_mesh
