// Whole-network simulation: the Verilated accelerator, its memory and its host port, all in C++.
//
// Built with a generated `masters.h`:
//   #define MASTERS(X) X(0) X(1) ...     one X per AXI4 master
//   #define BEAT_BYTES 16                bytes of an AXI beat
// Time advances in cycles; the host port is an AXI4-Lite master that is used between runs.
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <vector>

#include "Vrowmesh.h"
#include "masters.h"
#include "verilated.h"

namespace {

constexpr int kOkay = 0, kSlaveError = 2;
constexpr size_t kQueue = 32;  // bursts a master may have open in each direction

struct Burst {
    uint64_t address;
    unsigned beats;
    uint64_t ready_at;  // cycle of the first beat (reads) or of the response (writes)
    bool ok;
};

struct Port {
    std::deque<Burst> reads, writes, responses;
    uint8_t data[BEAT_BYTES] = {};
};

// What a port drives; applied after the clock edge, all masters the same way.
struct Inputs {
    bool arready = false, rvalid = false, rlast = false;
    bool awready = false, wready = false, bvalid = false;
    int rresp = kOkay, bresp = kOkay;
};

class Machine {
   public:
    Machine(size_t bytes, unsigned latency, double bytes_per_cycle, double stall, uint64_t seed)
        : memory(bytes),
          latency_(latency),
          rate_(bytes_per_cycle),
          stall_(static_cast<uint64_t>(stall * 4294967296.0)),
          random_(seed * 2 + 1) {
        context_.reset(new VerilatedContext);
        top_.reset(new Vrowmesh(context_.get()));
        reset();
    }

    ~Machine() { top_->final(); }

    void reset() {
        for (auto& port : ports_) port = Port();
        for (auto& in : inputs_) in = Inputs();
        top_->s_axil_awvalid = top_->s_axil_wvalid = top_->s_axil_arvalid = 0;
        top_->s_axil_bready = top_->s_axil_rready = 1;
        top_->s_axil_wstrb = 15;
        top_->rst = 1;
        for (int i = 0; i < 4; ++i) cycle();
        top_->rst = 0;
        cycle();
    }

    void write_register(uint32_t address, uint32_t value) {
        top_->s_axil_awaddr = address;
        top_->s_axil_wdata = value;
        top_->s_axil_awvalid = top_->s_axil_wvalid = 1;
        bool address_open = true, data_open = true, answered = false;
        while (!answered) {
            settle();
            const bool aw = top_->s_axil_awready && address_open;
            const bool w = top_->s_axil_wready && data_open;
            answered = top_->s_axil_bvalid;
            edge();
            if (aw) address_open = false, top_->s_axil_awvalid = 0;
            if (w) data_open = false, top_->s_axil_wvalid = 0;
        }
    }

    uint32_t read_register(uint32_t address) {
        top_->s_axil_araddr = address;
        top_->s_axil_arvalid = 1;
        for (;;) {
            settle();
            const bool taken = top_->s_axil_arready;
            const bool answered = top_->s_axil_rvalid;
            const uint32_t value = top_->s_axil_rdata;
            edge();
            if (taken) top_->s_axil_arvalid = 0;
            if (answered) return value;
        }
    }

    // Cycles until the interrupt, or -1 after `limit` cycles.
    int64_t run(uint64_t limit) {
        for (uint64_t n = 0; n < limit; ++n) {
            settle();
            const bool irq = top_->irq;
            if (irq) return static_cast<int64_t>(n);
            edge();
        }
        return -1;
    }

    std::vector<uint8_t> memory;
    uint64_t bytes_read = 0, bytes_written = 0, cycles = 0;

   private:
    void cycle() {
        settle();
        edge();
    }

    // Inputs of this cycle are applied; combinational outputs follow.
    void settle() {
        top_->clk = 0;
        top_->eval();
    }

    // Sample what was transferred in this cycle, clock, and drive the next cycle.
    void edge() {
        budget_ = rate_ > 0 ? (budget_ + rate_ > 4 * rate_ ? 4 * rate_ : budget_ + rate_) : 0;
        sample_all();
        top_->clk = 1;
        top_->eval();
        drive_all();
        ++cycles;
    }

    bool allowed() {
        if (rate_ <= 0) return true;
        if (budget_ < 0) return false;
        budget_ -= BEAT_BYTES;
        return true;
    }

    // Whether a channel goes on in this cycle (splitmix64).
    bool goes() {
        if (stall_ == 0) return true;
        uint64_t z = random_ += 0x9e3779b97f4a7c15;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
        z = (z ^ z >> 27) * 0x94d049bb133111eb;
        return (z >> 32) >= stall_;
    }

    bool inside(uint64_t address, unsigned beats) const {
        const uint64_t begin = address / BEAT_BYTES * BEAT_BYTES;
        return begin + uint64_t(beats) * BEAT_BYTES <= memory.size();
    }

    template <class Data, class Strobe>
    void write_beat(int index, const Data& wdata, const Strobe& wstrb) {
        Port& port = ports_[index];
        Burst& burst = port.writes.front();
        const uint64_t base = burst.address / BEAT_BYTES * BEAT_BYTES;
        const auto* bytes = reinterpret_cast<const uint8_t*>(&wdata);
        const auto* strobe = reinterpret_cast<const uint8_t*>(&wstrb);
        for (int i = 0; burst.ok && i < BEAT_BYTES; ++i)
            if (strobe[i / 8] >> (i % 8) & 1) memory[base + i] = bytes[i], ++bytes_written;
        burst.address = base + BEAT_BYTES;
        if (--burst.beats == 0) {
            burst.ready_at = cycles + latency_;
            port.responses.push_back(burst);
            port.writes.pop_front();
        }
    }

    void sample_all() {
#define SAMPLE(N)                                                                              \
    {                                                                                          \
        Port& port = ports_[N];                                                                \
        const Inputs& in = inputs_[N];                                                         \
        if (in.rvalid && top_->m##N##_axi_rready) {                                            \
            Burst& burst = port.reads.front();                                                 \
            burst.address = burst.address / BEAT_BYTES * BEAT_BYTES + BEAT_BYTES;              \
            bytes_read += BEAT_BYTES;                                                          \
            if (--burst.beats == 0) port.reads.pop_front();                                    \
        }                                                                                      \
        if (in.arready && top_->m##N##_axi_arvalid)                                            \
            port.reads.push_back({top_->m##N##_axi_araddr, top_->m##N##_axi_arlen + 1u,        \
                                  cycles + latency_,                                           \
                                  inside(top_->m##N##_axi_araddr, top_->m##N##_axi_arlen + 1u)}); \
        if (in.bvalid && top_->m##N##_axi_bready) port.responses.pop_front();                  \
        if (in.wready && top_->m##N##_axi_wvalid)                                              \
            write_beat(N, top_->m##N##_axi_wdata, top_->m##N##_axi_wstrb);                     \
        if (in.awready && top_->m##N##_axi_awvalid)                                            \
            port.writes.push_back({top_->m##N##_axi_awaddr, top_->m##N##_axi_awlen + 1u, 0,    \
                                   inside(top_->m##N##_axi_awaddr,                             \
                                          top_->m##N##_axi_awlen + 1u)});                      \
    }
        MASTERS(SAMPLE)
#undef SAMPLE
    }

    Inputs next(int index) {
        Port& port = ports_[index];
        const Inputs& before = inputs_[index];
        Inputs in;
        in.arready = port.reads.size() < kQueue && goes();
        in.awready = port.writes.size() + port.responses.size() < kQueue && goes();
        // A beat that was offered and not taken stays.
        if (!port.reads.empty()) {
            const Burst& burst = port.reads.front();
            const bool held = before.rvalid && offered_[index] == key(burst);
            in.rvalid = held || (burst.ready_at <= cycles && goes() && allowed());
            if (in.rvalid) {
                offered_[index] = key(burst);
                in.rlast = burst.beats == 1;
                in.rresp = burst.ok ? kOkay : kSlaveError;
                const uint64_t base = burst.address / BEAT_BYTES * BEAT_BYTES;
                if (burst.ok) std::memcpy(port.data, memory.data() + base, BEAT_BYTES);
            }
        }
        in.wready = !port.writes.empty() && goes() && allowed();
        if (!port.responses.empty() && port.responses.front().ready_at <= cycles &&
            (before.bvalid || goes())) {
            in.bvalid = true;
            in.bresp = port.responses.front().ok ? kOkay : kSlaveError;
        }
        return in;
    }

    static uint64_t key(const Burst& burst) { return burst.address << 9 | burst.beats; }

    void drive_all() {
#define DRIVE(N)                                                                 \
    {                                                                            \
        const Inputs in = next(N);                                               \
        inputs_[N] = in;                                                         \
        top_->m##N##_axi_arready = in.arready;                                   \
        top_->m##N##_axi_awready = in.awready;                                   \
        top_->m##N##_axi_wready = in.wready;                                     \
        top_->m##N##_axi_rvalid = in.rvalid;                                     \
        top_->m##N##_axi_rlast = in.rlast;                                       \
        top_->m##N##_axi_rresp = in.rresp;                                       \
        top_->m##N##_axi_rid = 0;                                                \
        std::memcpy(&top_->m##N##_axi_rdata, ports_[N].data, BEAT_BYTES);        \
        top_->m##N##_axi_bvalid = in.bvalid;                                     \
        top_->m##N##_axi_bresp = in.bresp;                                       \
        top_->m##N##_axi_bid = 0;                                                \
    }
        MASTERS(DRIVE)
#undef DRIVE
    }

#define COUNT(N) +1
    static constexpr int kMasters = 0 MASTERS(COUNT);
#undef COUNT
    std::unique_ptr<VerilatedContext> context_;
    std::unique_ptr<Vrowmesh> top_;
    Port ports_[kMasters];
    Inputs inputs_[kMasters];
    uint64_t offered_[kMasters] = {};
    unsigned latency_;
    double rate_, budget_ = 0;
    uint64_t stall_;   // of 2^32
    uint64_t random_;
};

}  // namespace

extern "C" {
Machine* rowmesh_new(size_t bytes, unsigned latency, double bytes_per_cycle, double stall,
                     uint64_t seed) {
    return new Machine(bytes, latency, bytes_per_cycle, stall, seed);
}
void rowmesh_free(Machine* m) { delete m; }
uint8_t* rowmesh_memory(Machine* m) { return m->memory.data(); }
void rowmesh_reset(Machine* m) { m->reset(); }
void rowmesh_write(Machine* m, uint32_t address, uint32_t value) {
    m->write_register(address, value);
}
uint32_t rowmesh_read(Machine* m, uint32_t address) { return m->read_register(address); }
int64_t rowmesh_run(Machine* m, uint64_t limit) { return m->run(limit); }
uint64_t rowmesh_bytes_read(Machine* m) { return m->bytes_read; }
uint64_t rowmesh_bytes_written(Machine* m) { return m->bytes_written; }
uint64_t rowmesh_cycles(Machine* m) { return m->cycles; }
}
