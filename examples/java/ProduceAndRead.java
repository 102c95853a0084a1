import java.io.File;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.Future;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.message.BinaryMessageDecoder;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Submits URLs to a Tidemill that runs on Kafka, and prints the documents that come of them.
 *
 * <pre>
 * mvn -q -f examples/java/pom.xml dependency:copy-dependencies
 * java -cp 'examples/java/target/dependency/*' examples/java/ProduceAndRead.java localhost:9092 tidemill. https://example.org/
 * </pre>
 *
 * To be run in the root of the checkout (it reads schemas/). Ends with 0 when every URL has its document, with 3 when some
 * have none within a minute.
 */
public class ProduceAndRead {
    static final Duration WAIT = Duration.ofSeconds(60);

    public static void main(String[] args) throws Exception {
        if (args.length < 3) {
            System.err.println("usage: ProduceAndRead BROKERS PREFIX URL...");
            System.exit(2);
        }
        String brokers = args[0], prefix = args[1];
        List<String> urls = List.of(args).subList(2, args.length);

        // Values are Avro in single-object encoding. Every schema ever released is known to the decoder, so that records
        // of an older Tidemill can be read too; what comes out has the shape of the newest.
        var decoder = new BinaryMessageDecoder<GenericRecord>(GenericData.get(), parse(Path.of("schemas/enriched.avsc")));
        for (File file : new File("schemas/history").listFiles((dir, name) -> name.startsWith("enriched-"))) {
            decoder.addSchema(parse(file.toPath()));
        }

        Map<String, Object> reading = Map.of(
            "bootstrap.servers", brokers,
            "enable.auto.commit", false,
            // Never show what a crash has undone. The default of Java's client is read_uncommitted.
            "isolation.level", "read_committed");
        Map<String, String> waiting = new HashMap<>();
        try (var consumer = new KafkaConsumer<>(reading, new StringDeserializer(), new ByteArrayDeserializer())) {
            // All partitions, without a group, from now on.
            List<TopicPartition> partitions = new ArrayList<>();
            consumer.partitionsFor(prefix + "enriched")
                .forEach(p -> partitions.add(new TopicPartition(p.topic(), p.partition())));
            consumer.assign(partitions);
            consumer.seekToEnd(partitions);
            // The seek is done when the position is asked for; what is written after that is read.
            partitions.forEach(consumer::position);

            submit(brokers, prefix + "urls", urls, waiting);
            long until = System.nanoTime() + WAIT.toNanos();
            while (!waiting.isEmpty() && System.nanoTime() < until) {
                for (ConsumerRecord<String, byte[]> record : consumer.poll(Duration.ofMillis(500))) {
                    // The task id comes along on everything the URL leads to.
                    Header task = record.headers().lastHeader("tidemill.task");
                    String url = task == null ? null : waiting.remove(new String(task.value(), StandardCharsets.UTF_8));
                    if (url != null) {
                        GenericRecord document = decoder.decode(record.value());
                        System.out.printf("%s\t%s\t%s\t%s words%n",
                            url, document.get("title"), document.get("language"), document.get("words"));
                    }
                }
            }
        }
        for (String url : waiting.values()) {
            System.err.printf("no document of %s within %d s; `tidemill explain` says why%n", url, WAIT.toSeconds());
        }
        System.exit(waiting.isEmpty() ? 0 : 3);
    }

    /** Writes the URLs; notes which task id is which URL's. */
    static void submit(String brokers, String topic, List<String> urls, Map<String, String> tasks) throws Exception {
        Map<String, Object> writing = Map.of("bootstrap.servers", brokers);
        var text = new StringSerializer();
        try (var producer = new KafkaProducer<>(writing, text, text)) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (String url : urls) {
                // A bare URL is enough; a JSON object or Avro (schemas/url_task.avsc) carries more.
                var record = new ProducerRecord<>(topic, hostKey(url), url);
                // Optional: Tidemill gives each record an id of its own unless one comes along.
                String task = UUID.randomUUID().toString();
                record.headers().add("tidemill.task", task.getBytes(StandardCharsets.UTF_8));
                tasks.put(task, url);
                sent.add(producer.send(record));
            }
            for (var one : sent) {
                one.get();
            }
        }
    }

    /** Host, and port if one is given: URLs of one host go to one partition, so that one member paces them. */
    static String hostKey(String url) {
        URI uri = URI.create(url);
        int standard = "https".equals(uri.getScheme()) ? 443 : 80;
        String host = uri.getHost().toLowerCase();
        return uri.getPort() == -1 || uri.getPort() == standard ? host : host + ":" + uri.getPort();
    }

    static Schema parse(Path file) throws Exception {
        return new Schema.Parser().parse(file.toFile());
    }
}
