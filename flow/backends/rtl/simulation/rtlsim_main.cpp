// Cycle-accurate simulation of an elaborated design:
// rtlsim DESIGN IN OUT SAMPLES PER_LANE SEED PATIENCE TOGGLES IDLE_CYCLES.
// The design is the list of words that elaboration.py makes: 64-bit slots and the steps that compute them in order.
// Every slot has LANES values: lane i simulates the design on PER_LANE samples of its own, all lanes in the same cycle.
// Only what has changed is computed: a dense layer behind a stream rests most of the time.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

using u64 = uint64_t;
using i64 = int64_t;

constexpr size_t LANES = 16;
constexpr i64 RESET_CYCLES = 4, DRAIN_CYCLES = 64;

enum Code {
    INSERT, SIGN, MASK, ADD, SUB, MUL, DIVU, DIVS, MODU, MODS, AND, OR, XOR, LTU, LTS, LEU, LES,
    ZERO, NONZERO, PARITY, MUX, SHIFT, TABLE, READ
};

struct Step { size_t code, dst, a, b, c, low, high; u64 mask; };
struct Register { size_t q, d; u64 initial; };
struct Memory { size_t size; std::vector<u64> words; };
struct Write { size_t memory, enable, address, data; };
struct Toggle { size_t slot; u64 mask; size_t op; };
struct Input {
    size_t valid, last, ready, data, bits, words, elements, width;
    size_t chunks = (bits + 63) / 64;
    u64 mask(size_t chunk) const { return chunk + 1 < chunks || bits % 64 == 0 ? ~u64(0) : (u64(1) << bits % 64) - 1; }
};
struct Probe { size_t valid, ready, last, words; std::vector<size_t> elements; };  // an op, or an output port

struct Reader {
    std::vector<i64> words;
    size_t at = 0;
    i64 next() { return words.at(at++); }
};

static std::vector<i64> read_file(const std::string &path) {
    std::ifstream file(path, std::ios::binary | std::ios::ate);
    if (!file) { std::fprintf(stderr, "%s cannot be read\n", path.c_str()); std::exit(1); }
    std::vector<i64> words(size_t(file.tellg()) / 8);
    file.seekg(0);
    file.read(reinterpret_cast<char *>(words.data()), std::streamsize(words.size() * 8));
    return words;
}

static void write_file(const std::string &path, const std::vector<i64> &words) {
    std::ofstream file(path, std::ios::binary);
    file.write(reinterpret_cast<const char *>(words.data()), std::streamsize(words.size() * 8));
    if (!file.flush()) { std::fprintf(stderr, "%s cannot be written\n", path.c_str()); std::exit(1); }
}

static std::vector<u64> values;
static std::vector<Step> steps;
static std::vector<u64> table;
static std::vector<Memory> memories;

static u64 *at(size_t slot) { return &values[slot * LANES]; }

// 64 bits from bit `position` of the number whose chunks start at `a`; below it are zeros, above it is `fill`.
static u64 window(const u64 *a, i64 chunks, i64 position, u64 fill, size_t lane) {
    auto chunk = [&](i64 k) { return k < 0 ? 0 : k >= chunks ? fill : a[size_t(k) * LANES + lane]; };
    const i64 first = position >> 6, shift = position & 63;
    return shift == 0 ? chunk(first) : chunk(first) >> shift | chunk(first + 1) << (64 - shift);
}

// What is due: steps of which something that they read has changed, and registers whose next value has.
struct Due {
    std::vector<std::vector<size_t>> of;  // slot, or memory -> what it makes due
    std::vector<u64> bits;
    void all(size_t count) {
        bits.assign((count + 63) / 64, ~u64(0));
        if (count % 64 != 0) bits.back() = (u64(1) << count % 64) - 1;
    }
    void wake(size_t slot) {
        for (size_t i : of[slot]) bits[i / 64] |= u64(1) << i % 64;
    }
};
static Due due_steps, due_registers;
static std::vector<std::vector<size_t>> memory_readers;  // memory -> slots whose change wakes the steps that read it
static std::vector<std::vector<size_t>> toggles_of;      // slot -> toggles
static u64 diff[LANES];                                  // the bits of the last result that changed
static bool counted[LANES] = {};
static std::vector<Toggle> toggles;
static std::vector<i64> flips;

// Tells all that depend on a slot that it has changed, by `diff`.
static void changed(size_t slot) {
    due_steps.wake(slot);
    due_registers.wake(slot);
    for (size_t i : toggles_of[slot])
        for (size_t lane = 0; lane < LANES; lane++)
            if (counted[lane]) flips[toggles[i].op] += __builtin_popcountll(diff[lane] & toggles[i].mask);
}

#define EACH(CODE, VALUE)                                 \
    case CODE:                                            \
        for (size_t lane = 0; lane < LANES; lane++) {     \
            const u64 value = (VALUE);                    \
            any |= diff[lane] = value ^ dst[lane];        \
            dst[lane] = value;                            \
        }                                                 \
        break;
#define A a[lane]
#define B b[lane]
#define C c[lane]

static inline u64 run(const Step &step) {  // which bits of its result changed, in any lane
    const u64 *a = at(step.a), *b = at(step.b), *c = at(step.c), mask = step.mask;
    u64 *__restrict dst = at(step.dst), any = 0;
    const size_t low = step.low, high = step.high;
    switch (step.code) {
        EACH(INSERT, B | ((A >> low) & mask) << high)
        EACH(SIGN, u64(i64(A << (64 - low)) >> (64 - low)))
        EACH(MASK, A & mask)
        EACH(ADD, (A + B) & mask)
        EACH(SUB, (A - B) & mask)
        EACH(MUL, (A * B) & mask)
        EACH(DIVU, (B == 0 ? 0 : A / B) & mask)
        EACH(DIVS, (B == 0 ? 0 : B + 1 == 0 ? -A : u64(i64(A) / i64(B))) & mask)
        EACH(MODU, (B == 0 ? 0 : A % B) & mask)
        EACH(MODS, (B == 0 || B + 1 == 0 ? 0 : u64(i64(A) % i64(B))) & mask)
        EACH(AND, A & B)
        EACH(OR, A | B)
        EACH(XOR, A ^ B)
        EACH(LTU, A < B)
        EACH(LTS, i64(A) < i64(B))
        EACH(LEU, A <= B)
        EACH(LES, i64(A) <= i64(B))
        EACH(ZERO, A == 0)
        EACH(NONZERO, A != 0)
        EACH(PARITY, u64(__builtin_parityll(A)))
        EACH(MUX, A ^ ((A ^ B) & (0 - C)))
        EACH(SHIFT, window(a, i64(low), i64(B) + i64(high), C, lane) & mask)
        EACH(TABLE, A < mask ? table[low + A] : 0)
        EACH(READ, A < memories[low].size ? memories[low].words[A * LANES + lane] : 0)
    }
    return any;
}

// Runs the steps that are due. They are in order, so a step wakes only later ones.
#if defined(__x86_64__)
__attribute__((target_clones("avx2", "default")))
#endif
static void evaluate() {
    std::vector<u64> &due = due_steps.bits;
    for (size_t word = 0; word < due.size(); word++)
        while (due[word] != 0) {
            const Step &step = steps[word * 64 + size_t(__builtin_ctzll(due[word]))];
            due[word] &= due[word] - 1;
            if (run(step) != 0) changed(step.dst);
        }
}

// splitmix64: the same numbers everywhere.
struct Random {
    u64 state;
    u64 next() {
        u64 z = state += 0x9e3779b97f4a7c15u;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        return z ^ z >> 31;
    }
};

// Says in which cycles a port stalls: bursts of 1 to 64 cycles, each with its own probability of up to 15/16.
struct Stalls {
    Random random{0};
    u64 left = 0, sixteenths = 0;
    bool enabled = false;
    bool next() {
        if (!enabled) return false;
        if (left == 0) left = 1 + random.next() % 64, sixteenths = random.next() % 16;
        left--;
        return random.next() % 16 < sixteenths;
    }
};

struct Sink {
    const Probe *probe;
    std::vector<i64> codes;
    size_t count[LANES] = {};
};

int main(int argc, char **argv) {
    if (argc != 10) return 1;
    Reader design{read_file(argv[1])};
    const std::string in = argv[2], out = argv[3];
    const size_t samples = std::stoull(argv[4]), per_lane = std::stoull(argv[5]);
    const i64 seed = std::stoll(argv[6]), patience = std::stoll(argv[7]);
    const bool count_toggles = std::stoi(argv[8]) != 0;
    const i64 start = RESET_CYCLES + std::stoll(argv[9]);  // when inputs may be valid

    auto number = [&] { return size_t(design.next()); };
    values.assign(number() * LANES, 0);
    const size_t aresetn = number();
    for (size_t n = number(); n > 0; n--) {
        const size_t slot = number();
        std::fill_n(at(slot), LANES, u64(design.next()));
    }
    steps.resize(number());
    for (Step &s : steps)
        s = {number(), number(), number(), number(), number(), number(), number(), u64(design.next())};
    table.resize(number());
    for (u64 &word : table) word = u64(design.next());
    memories.resize(number());
    for (Memory &memory : memories) {
        memory.size = number();
        const size_t first = number();
        for (size_t i = 0; i < memory.size; i++) memory.words.insert(memory.words.end(), LANES, table[first + i]);
    }
    std::vector<Register> registers(number());
    for (Register &r : registers) {
        r = {number(), number(), u64(design.next())};
        std::fill_n(at(r.q), LANES, r.initial);
    }
    std::vector<Write> writes(number());
    for (Write &w : writes) w = {number(), number(), number(), number()};
    toggles_of.resize(values.size() / LANES);
    toggles.resize(number());
    for (size_t i = 0; i < toggles.size(); i++) {
        toggles[i] = {number(), u64(design.next()), number()};
        if (count_toggles) toggles_of[toggles[i].slot].push_back(i);
    }
    std::vector<Input> inputs(number());
    for (Input &i : inputs)
        i = {number(), number(), number(), number(), number(), number(), number(), number()};
    due_steps.of.resize(values.size() / LANES);
    due_registers.of.resize(values.size() / LANES);
    memory_readers.resize(memories.size());
    due_steps.all(steps.size());
    due_registers.all(registers.size());
    for (size_t i = 0; i < steps.size(); i++) {
        const Step &s = steps[i];
        for (size_t slot = s.a; slot < s.a + (s.code == SHIFT ? s.low : 1); slot++) due_steps.of[slot].push_back(i);
        due_steps.of[s.b].push_back(i);
        due_steps.of[s.c].push_back(i);
        if (s.code == READ) memory_readers[s.low].push_back(s.a);
    }
    for (size_t i = 0; i < registers.size(); i++) due_registers.of[registers[i].d].push_back(i);
    auto read_probes = [&] {
        std::vector<Probe> probes(number());
        for (Probe &p : probes) {
            p = {number(), number(), number(), number(), std::vector<size_t>(number())};
            for (size_t &slot : p.elements) slot = number();
        }
        return probes;
    };
    const std::vector<Probe> outputs = read_probes(), ops = read_probes();

    std::vector<std::vector<i64>> codes;
    for (size_t i = 0; i < inputs.size(); i++) codes.push_back(read_file(in + "/" + std::to_string(i) + ".bin"));
    auto sinks_of = [&](const std::vector<Probe> &probes) {
        std::vector<Sink> sinks;
        for (const Probe &p : probes) sinks.push_back({&p, std::vector<i64>(samples * p.words * p.elements.size())});
        return sinks;
    };
    std::vector<Sink> op_sinks = sinks_of(ops), port_sinks = sinks_of(outputs);
    size_t first[LANES + 1];
    for (size_t lane = 0; lane <= LANES; lane++) first[lane] = std::min(samples, lane * per_lane);

    std::vector<Stalls> stalls((inputs.size() + outputs.size()) * LANES);
    Random seeds{u64(seed)};
    for (size_t i = 0; i < stalls.size(); i++) {  // the same in all lanes, so what rests in one rests in all
        stalls[i].random.state = i % LANES ? stalls[i - 1].random.state : seeds.next();
        stalls[i].enabled = seed >= 0;
    }

    std::vector<size_t> beats(inputs.size() * LANES, 0);
    std::vector<std::vector<u64>> waiting(outputs.size() * LANES);  // what a port offered and could not pass
    std::vector<i64> times(samples * 2, -1), progress(LANES, start), drained(LANES, 0);
    flips.assign(ops.size(), 0);
    std::vector<u64> next(registers.size() * LANES);
    std::vector<size_t> clocked;
    i64 cycle = 0;

    // Takes the word of a sink; false if the lane had all its words already.
    auto take = [&](Sink &sink, size_t lane) {
        const size_t lanes_words = (first[lane + 1] - first[lane]) * sink.probe->words;
        if (sink.count[lane] == lanes_words) return false;
        const size_t width = sink.probe->elements.size();
        i64 *to = &sink.codes[(first[lane] * sink.probe->words + sink.count[lane]++) * width];
        for (size_t slot : sink.probe->elements) *to++ = i64(at(slot)[lane]);
        return true;
    };
    auto complain = [&](const char *what, size_t index, size_t lane, size_t count) {
        std::printf("%s %zu %zu %zu %lld\n", what, index, first[lane], count, (long long)cycle);
    };

    for (;; cycle++) {
        const bool running = cycle >= RESET_CYCLES;
        std::fill_n(at(aresetn), LANES, u64(running));
        for (size_t lane = 0; lane < LANES; lane++) {
            for (size_t i = 0; i < inputs.size(); i++) {
                const Input &port = inputs[i];
                u64 &valid = at(port.valid)[lane];
                const size_t beat = beats[i * LANES + lane], all = (first[lane + 1] - first[lane]) * port.words;
                if (cycle < start || valid || beat == all || stalls[i * LANES + lane].next()) continue;
                valid = 1;
                at(port.last)[lane] = (beat + 1) % port.words == 0;
                for (size_t chunk = 0; chunk < port.chunks; chunk++) at(port.data + chunk)[lane] = 0;
                const i64 *code = &codes[i][(first[lane] * port.words + beat) * port.elements];
                for (size_t e = 0, bit = 0; e < port.elements; e++, bit += port.width) {
                    const u64 bits = u64(code[e]) & ~u64(0) >> (64 - port.width);
                    at(port.data + bit / 64)[lane] |= bits << bit % 64;
                    if (bit % 64 + port.width > 64) at(port.data + bit / 64 + 1)[lane] |= bits >> (64 - bit % 64);
                }
            }
            for (size_t o = 0; o < outputs.size(); o++)
                at(outputs[o].ready)[lane] = running && !stalls[(inputs.size() + o) * LANES + lane].next();
        }
        std::fill_n(diff, LANES, 0);  // no op drives these
        changed(aresetn);
        for (const Input &port : inputs) {
            for (size_t slot : {port.valid, port.last}) changed(slot);
            for (size_t chunk = 0; chunk < port.chunks; chunk++) changed(port.data + chunk);
        }
        for (const Probe &port : outputs) changed(port.ready);
        evaluate();
        bool active = false;
        for (size_t lane = 0; running && lane < LANES; lane++) {
            if (drained[lane] == DRAIN_CYCLES || first[lane] == first[lane + 1]) continue;
            active = true;
            bool complete = true;
            for (size_t i = 0; i < ops.size(); i++) {
                if (at(ops[i].valid)[lane] & at(ops[i].ready)[lane]) {
                    progress[lane] = cycle;
                    if (!take(op_sinks[i], lane)) return complain("surplus", i, lane, op_sinks[i].count[lane]), 0;
                }
                complete &= op_sinks[i].count[lane] == (first[lane + 1] - first[lane]) * ops[i].words;
            }
            for (size_t i = 0; i < inputs.size(); i++) {
                u64 &valid = at(inputs[i].valid)[lane];
                if (!(valid & at(inputs[i].ready)[lane])) continue;
                progress[lane] = cycle;
                i64 &started = times[2 * (first[lane] + beats[i * LANES + lane]++ / inputs[i].words)];
                if (started < 0) started = cycle;
            }
            for (size_t o = 0; o < outputs.size(); o++) {
                const Probe &port = outputs[o];
                Sink &sink = port_sinks[o];
                std::vector<u64> &offered = waiting[o * LANES + lane];
                const bool valid = at(port.valid)[lane];
                if (!offered.empty() || (valid && !at(port.ready)[lane])) {
                    std::vector<u64> now{u64(valid), at(port.last)[lane]};
                    for (size_t slot : port.elements) now.push_back(at(slot)[lane]);
                    if (!offered.empty() && now != offered) return complain("unstable", o, lane, sink.count[lane]), 0;
                    offered.swap(now);
                }
                if (valid && at(port.ready)[lane]) {
                    offered.clear();
                    progress[lane] = cycle;
                    const size_t word = sink.count[lane];
                    if (!take(sink, lane)) return complain("more", o, lane, word), 0;
                    const bool last = (word + 1) % port.words == 0;
                    if (at(port.last)[lane] != u64(last)) return complain("tlast", o, lane, word), 0;
                    if (last) times[2 * (first[lane] + word / port.words) + 1] = cycle;
                }
                complete &= sink.count[lane] == (first[lane + 1] - first[lane]) * port.words;
            }
            if (complete) drained[lane]++;
            else if (cycle - progress[lane] > patience) {
                complain("deadlock", 0, lane, 0);
                for (size_t i = 0; i < ops.size(); i++)
                    std::printf("op %zu %zu %d %d\n", i, op_sinks[i].count[lane], int(at(ops[i].valid)[lane]),
                                int(at(ops[i].ready)[lane]));
                return 0;
            }
        }
        if (running && !active) break;
        for (size_t lane = 0; lane < LANES; lane++)
            counted[lane] = running && first[lane] < first[lane + 1] && drained[lane] < 2;
        for (const Write &w : writes)
            for (size_t lane = 0; lane < LANES; lane++) {
                const u64 address = at(w.address)[lane], enable = at(w.enable)[lane];
                if (address >= memories[w.memory].size) continue;
                u64 &word = memories[w.memory].words[address * LANES + lane];
                const u64 written = (word & ~enable) | (at(w.data)[lane] & enable);
                if (written != word)
                    for (size_t slot : memory_readers[w.memory]) due_steps.wake(slot);
                word = written;
            }
        clocked.clear();
        for (size_t word = 0; word < due_registers.bits.size(); word++)
            for (u64 &left = due_registers.bits[word]; left != 0; left &= left - 1)
                clocked.push_back(word * 64 + size_t(__builtin_ctzll(left)));
        for (size_t i : clocked) std::copy_n(at(registers[i].d), LANES, &next[i * LANES]);
        // A beat that passed is over: the next one is driven, or stalls, in the next cycle; no data are left to read.
        for (size_t lane = 0; running && lane < LANES; lane++)
            for (const Input &port : inputs) {
                if (!(at(port.valid)[lane] & at(port.ready)[lane])) continue;
                at(port.valid)[lane] = 0;
                for (size_t chunk = 0; seed >= 0 && chunk < port.chunks; chunk++)
                    at(port.data + chunk)[lane] = seeds.next() & port.mask(chunk);
            }
        for (size_t i : clocked) {
            u64 *q = at(registers[i].q), any = 0;
            for (size_t lane = 0; lane < LANES; lane++) {
                any |= diff[lane] = q[lane] ^ next[i * LANES + lane];
                q[lane] = next[i * LANES + lane];
            }
            if (any != 0) changed(registers[i].q);
        }
    }
    for (size_t i = 0; i < ops.size(); i++) write_file(out + "/op" + std::to_string(i) + ".bin", op_sinks[i].codes);
    for (size_t o = 0; o < outputs.size(); o++)
        write_file(out + "/port" + std::to_string(o) + ".bin", port_sinks[o].codes);
    write_file(out + "/times.bin", times);
    write_file(out + "/toggles.bin", flips);
    write_file(out + "/cycles.bin", {cycle});
}
