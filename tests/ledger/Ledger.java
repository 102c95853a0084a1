import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ListOffsetsOptions;
import org.apache.kafka.clients.admin.ListOffsetsResult.ListOffsetsResultInfo;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.IsolationLevel;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * The ledger of a topic, taken with Kafka's own client and nothing of Tidemill's: reads it from its beginning to the end
 * it has now, and prints one line of JSON.
 *
 * <pre>
 * java tests/ledger/Ledger.java BOOTSTRAP TOPIC read_committed|read_uncommitted [BY [PATTERN N]]
 * </pre>
 *
 * BY is what a record is counted by: {@code key} (the default), or {@code header:NAME}. PATTERN is a format of what there
 * should be: {@code k%d} and 3 mean k0, k1, k2. In the answer:
 *
 * <ul>
 *   <li>records, distinct: records; different keys among them
 *   <li>without: records that have no key (or no such header)
 *   <li>repeated, repeated_such_as, most: keys that come more than once, some of them, and how often the commonest comes
 *   <li>missing, missing_such_as, foreign: with PATTERN: keys that should be there and are not; and the other way round
 *   <li>unreadable: offsets behind a transaction that is still open, which read_committed does not show. Not 0: wait until
 *       it has ended before calling anything missing
 * </ul>
 */
public class Ledger {
    static final int EXAMPLES = 10;
    static final Duration PATIENCE = Duration.ofSeconds(60);

    public static void main(String[] args) throws Exception {
        if (args.length < 3 || args.length == 5 || args.length > 6) {
            System.err.println("usage: Ledger BOOTSTRAP TOPIC read_committed|read_uncommitted [BY [PATTERN N]]");
            System.exit(2);
        }
        String bootstrap = args[0], topic = args[1], isolation = args[2], by = args.length > 3 ? args[3] : "key";
        Map<String, Object> config = Map.of(
            "bootstrap.servers", bootstrap,
            "isolation.level", isolation,
            "enable.auto.commit", false,
            // It reads from where it is told; an offset that is gone is an error.
            "auto.offset.reset", "none",
            "allow.auto.create.topics", false);
        var text = new StringDeserializer();
        Map<String, Integer> counts = new HashMap<>();
        long records = 0, without = 0, unreadable = 0;
        try (var consumer = new KafkaConsumer<>(config, text, text); var admin = Admin.create(config)) {
            List<TopicPartition> partitions = new ArrayList<>();
            consumer.partitionsFor(topic).forEach(p -> partitions.add(new TopicPartition(topic, p.partition())));
            consumer.assign(partitions);
            // With read_committed this end is the first offset of the oldest open transaction.
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            Map<TopicPartition, OffsetSpec> latest = new HashMap<>();
            partitions.forEach(p -> latest.put(p, OffsetSpec.latest()));
            var all = admin.listOffsets(latest, new ListOffsetsOptions(IsolationLevel.READ_UNCOMMITTED)).all().get();
            for (TopicPartition p : partitions) {
                ListOffsetsResultInfo end = all.get(p);
                unreadable += Math.max(0, end.offset() - ends.get(p));
            }
            consumer.seekToBeginning(partitions);
            long progress = System.nanoTime();
            // The position, not the last record, tells the end: markers of transactions have offsets too.
            while (!partitions.stream().allMatch(p -> consumer.position(p) >= ends.get(p))) {
                var batch = consumer.poll(Duration.ofMillis(500));
                for (ConsumerRecord<String, String> r : batch) {
                    if (r.offset() >= ends.get(new TopicPartition(r.topic(), r.partition()))) {
                        continue;
                    }
                    records++;
                    String key = r.key();
                    if (by.startsWith("header:")) {
                        Header header = r.headers().lastHeader(by.substring("header:".length()));
                        key = header == null ? null : text.deserialize(topic, header.value());
                    }
                    if (key == null) {
                        without++;
                    } else {
                        counts.merge(key, 1, Integer::sum);
                    }
                }
                if (!batch.isEmpty()) {
                    progress = System.nanoTime();
                } else if (System.nanoTime() - progress > PATIENCE.toNanos()) {
                    throw new IllegalStateException("no record for " + PATIENCE + " before the end of " + topic);
                }
            }
        }

        var repeated = new TreeSet<String>();
        int most = counts.values().stream().mapToInt(i -> i).max().orElse(0);
        counts.forEach((key, n) -> { if (n > 1) repeated.add(key); });
        var line = new StringBuilder();
        line.append("{\"topic\":").append(quoted(topic));
        line.append(",\"records\":").append(records).append(",\"distinct\":").append(counts.size());
        line.append(",\"without\":").append(without).append(",\"unreadable\":").append(unreadable);
        line.append(",\"repeated\":").append(repeated.size()).append(",\"repeated_such_as\":").append(some(repeated));
        line.append(",\"most\":").append(most);
        if (args.length == 6) {
            var missing = new ArrayList<String>();
            int wanted = Integer.parseInt(args[5]);
            for (int i = 0; i < wanted; i++) {
                String key = String.format(args[4], i);
                if (!counts.containsKey(key)) {
                    missing.add(key);
                }
            }
            line.append(",\"missing\":").append(missing.size()).append(",\"missing_such_as\":").append(some(missing));
            line.append(",\"foreign\":").append(counts.size() - (wanted - missing.size()));
        }
        System.out.println(line.append("}"));
    }

    static String some(Iterable<String> keys) {
        var list = new ArrayList<String>();
        for (String key : keys) {
            if (list.size() < EXAMPLES) {
                list.add(quoted(key));
            }
        }
        return "[" + String.join(",", list) + "]";
    }

    static String quoted(String text) {
        var out = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\' || c < ' ') {
                out.append(String.format("\\u%04x", (int) c));
            } else {
                out.append(c);
            }
        }
        return out.append('"').toString();
    }
}
