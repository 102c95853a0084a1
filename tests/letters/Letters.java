import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.io.PrintStream;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Comparator;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.Headers;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.Serializer;
import org.apache.kafka.connect.cli.ConnectStandalone;
import org.apache.kafka.connect.connector.Task;
import org.apache.kafka.connect.json.JsonConverter;
import org.apache.kafka.connect.json.JsonDeserializer;
import org.apache.kafka.connect.json.JsonSerializer;
import org.apache.kafka.connect.sink.SinkConnector;
import org.apache.kafka.connect.sink.SinkRecord;
import org.apache.kafka.connect.sink.SinkTask;
import org.apache.kafka.connect.transforms.Transformation;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.DefaultProductionExceptionHandler;
import org.apache.kafka.streams.errors.ErrorHandlerContext;
import org.apache.kafka.streams.errors.LogAndContinueExceptionHandler;
import org.apache.kafka.streams.errors.LogAndContinueProcessingExceptionHandler;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Produced;
import org.springframework.kafka.core.DefaultKafkaConsumerFactory;
import org.springframework.kafka.core.DefaultKafkaProducerFactory;
import org.springframework.kafka.core.KafkaTemplate;
import org.springframework.kafka.listener.ConcurrentMessageListenerContainer;
import org.springframework.kafka.listener.ContainerProperties;
import org.springframework.kafka.listener.DeadLetterPublishingRecoverer;
import org.springframework.kafka.listener.DefaultErrorHandler;
import org.springframework.kafka.listener.MessageListener;
import org.springframework.kafka.support.serializer.DelegatingByTypeSerializer;
import org.springframework.kafka.support.serializer.ErrorHandlingDeserializer;
import org.springframework.util.FileSystemUtils;
import org.springframework.util.backoff.FixedBackOff;

import static java.nio.charset.StandardCharsets.UTF_8;

/**
 * Dead letters as Spring for Kafka, Kafka Connect and Kafka Streams write them: gives each of them orders of which most
 * cannot be worked, with the dead-letter settings their manuals have, and prints what came of it.
 *
 * <pre>
 * tests/services/java --letters tests/letters/Letters.java BOOTSTRAP spring|connect|streams|raw PREFIX
 * </pre>
 *
 * PREFIX must be new: it makes the topics PREFIXorders and, for the libraries, PREFIXorders-dlt,
 * PREFIXorders-connect-dlq or PREFIXorders-streams-dlq, with three partitions each. One letter is put back into
 * PREFIXorders with all the headers it has by then, so it dies twice. {@code raw} only puts all of the orders into
 * PREFIXorders-raw.
 *
 * Prints a line of JSON for each letter, in the order of {@code n}, the one that died twice last:
 *
 * <ul>
 *   <li>topic, partition, offset, key, value, headers: the letter's own; bytes in base64, or null
 *   <li>n, original: the order's header n, and where the order was at first
 *   <li>failed: where the record was that the library read before it wrote this letter. Only the one that died twice
 *       has another place here
 * </ul>
 *
 * Ends with 1 and a sentence when they are not there within a minute, or when there are more.
 */
public class Letters {
    static final int PARTITIONS = 3;
    /** Seconds. */
    static final int PATIENCE = 60;
    static final String OK = "ok", STOCK = "stock", PAYMENT = "payment", SILENT = "silent", LARGE = "large";
    /** The order that is put back after its first death. */
    static final int TWICE = 3;
    static final ObjectMapper JSON = new ObjectMapper();

    record Order(int n, byte[] key, byte[] value, boolean dies) {}

    record Letter(ConsumerRecord<byte[], byte[]> record, RecordMetadata original, RecordMetadata failed) {}

    /** The same for all libraries: what cannot be decoded, and what the code that works orders has no answer to. */
    static List<Order> orders() {
        byte[] broken = "{\"order\":1005,\"outcome\":".getBytes(UTF_8);
        byte[] binary = {(byte) 0xff, (byte) 0xfe, 0, 1, (byte) 0xc3, '(', '\n'};
        var orders = new ArrayList<Order>();
        String[] outcomes = {OK, STOCK, STOCK, PAYMENT, SILENT, null, null, OK, OK, PAYMENT, LARGE, null, STOCK};
        for (int n = 0; n < outcomes.length; n++) {
            byte[] key = String.valueOf(1000 + n).getBytes(UTF_8);
            String outcome = outcomes[n];
            byte[] value = outcome == null ? null : order(1000 + n, outcome).toString().getBytes(UTF_8);
            switch (n) {
                case 5 -> value = broken;
                case 6 -> value = binary;
                case 7 -> key = new byte[] {(byte) 0x80, 7, (byte) 0xfe};
                case 12 -> key = null;
            }
            orders.add(new Order(n, key, value, n == 7 || !OK.equals(outcome)));
        }
        return orders;
    }

    static ObjectNode order(int number, String outcome) {
        return JSON.createObjectNode().put("order", number).put("customer", "Zo\u00eb").put("outcome", outcome);
    }

    /** What the user's code does with an order, in all three. */
    static void work(Object key, Integer order, String outcome) {
        if (order == null) {
            throw new IllegalArgumentException("there is no order any more behind key " + key);
        }
        switch (outcome) {
            case STOCK -> throw new IllegalStateException(
                "order " + order + ": only " + order % 7 + " of 12 items are in warehouse 'W-" + order * 31 + "'");
            case PAYMENT -> throw new UncheckedIOException("order " + order + " is not paid",
                new IOException("payments-" + order % 4 + ".internal:8443 answered 503 after " + order * 3 + " ms"));
            case SILENT -> throw new UnsupportedOperationException();
            case LARGE -> throw new IllegalStateException("order " + order + " does not fit into 4 vans of 3,500 kg");
            default -> { }
        }
    }

    static void work(Object key, JsonNode order) {
        // A null value is a JSON null to some.
        boolean gone = order == null || order.isNull();
        work(key, gone ? null : order.get("order").intValue(), gone ? null : outcome(order));
    }

    static String outcome(JsonNode order) {
        return order.get("outcome").textValue();
    }

    static Headers headers(int n) {
        byte[] trace = ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902" + (10 + n) + "-01").getBytes(UTF_8);
        return new RecordHeaders(List.of(
            new RecordHeader("n", String.valueOf(n).getBytes(UTF_8)),
            new RecordHeader("trace", trace),
            new RecordHeader("trace", "retried".getBytes(UTF_8)),
            new RecordHeader("binary", new byte[] {0, (byte) 0xff, (byte) n}),
            new RecordHeader("empty", new byte[0]),
            new RecordHeader("null", null)));
    }

    // Spring for Kafka.

    static AutoCloseable spring(String bootstrap, String source) {
        // For each attempt it seeks, and waits for a fetch that is under way.
        Map<String, Object> config = Map.of("bootstrap.servers", bootstrap, "group.id", source + "-shop",
            "auto.offset.reset", "earliest", "fetch.max.wait.ms", 10);
        var consumers = new DefaultKafkaConsumerFactory<>(config,
            new ErrorHandlingDeserializer<>(new JsonDeserializer()),
            new ErrorHandlingDeserializer<>(new JsonDeserializer()));
        // What could not be deserialised is sent on as the bytes it was.
        Map<Class<?>, Serializer<?>> serializers =
            Map.of(byte[].class, new ByteArraySerializer(), JsonNode.class, new JsonSerializer());
        var producers = new DefaultKafkaProducerFactory<Object, Object>(Map.of("bootstrap.servers", bootstrap),
            new DelegatingByTypeSerializer(serializers, true), new DelegatingByTypeSerializer(serializers, true));
        var properties = new ContainerProperties(source);
        properties.setMessageListener((MessageListener<JsonNode, JsonNode>) r -> work(r.key(), r.value()));
        var container = new ConcurrentMessageListenerContainer<>(consumers, properties);
        container.setBeanName("shop");
        container.setCommonErrorHandler(new DefaultErrorHandler(
            new DeadLetterPublishingRecoverer(new KafkaTemplate<>(producers)), new FixedBackOff(10, 2)));
        container.start();
        return () -> {
            container.stop();
            producers.destroy();
        };
    }

    // Kafka Connect. It loads connectors and transforms from files only: the classes here are written into a folder.

    static AutoCloseable connect(String bootstrap, String source, String letters, Path folder) throws Exception {
        Path plugin = Files.createDirectories(folder.resolve("plugins/shop"));
        for (Class<?> c : Letters.class.getNestMembers()) {
            try (var code = Letters.class.getClassLoader().getResourceAsStream(c.getName() + ".class")) {
                Files.write(plugin.resolve(c.getName() + ".class"), code.readAllBytes());
            }
        }
        Path services = Files.createDirectories(plugin.resolve("META-INF/services"));
        Files.writeString(services.resolve(SinkConnector.class.getName()), Shop.class.getName());
        Files.writeString(services.resolve(Transformation.class.getName()), Check.class.getName());
        var connect = new ConnectStandalone().startConnect(new HashMap<>(Map.of(
            "bootstrap.servers", bootstrap,
            "key.converter", JsonConverter.class.getName(),
            "key.converter.schemas.enable", "false",
            "value.converter", JsonConverter.class.getName(),
            "value.converter.schemas.enable", "false",
            "offset.storage.file.filename", folder.resolve("offsets").toString(),
            "plugin.path", folder.resolve("plugins").toString(),
            "plugin.discovery", "service_load",
            "listeners", "http://127.0.0.1:0")));
        Map<String, String> connector = Map.of(
            "name", source + "-shop",
            "connector.class", Shop.class.getName(),
            "tasks.max", "1",
            "topics", source,
            "transforms", "check",
            "transforms.check.type", Check.class.getName(),
            "errors.tolerance", "all",
            "errors.deadletterqueue.topic.name", letters,
            "errors.deadletterqueue.topic.replication.factor", "1",
            "errors.deadletterqueue.context.headers.enable", "true");
        connect.herder().putConnectorConfig(source + "-shop", connector, false, (error, created) -> {
            if (error != null) {
                fail("the connector did not start: " + error);
            }
        });
        return () -> {
            connect.stop();
            connect.awaitStop();
        };
    }

    /** A sink that reports what it cannot work, as those for databases and search engines do. */
    public static class Shop extends SinkConnector {
        @Override public String version() { return "1"; }
        @Override public ConfigDef config() { return new ConfigDef(); }
        @Override public Class<? extends Task> taskClass() { return ShopTask.class; }
        @Override public List<Map<String, String>> taskConfigs(int max) { return List.of(Map.of()); }
        @Override public void start(Map<String, String> config) { }
        @Override public void stop() { }
    }

    public static class ShopTask extends SinkTask {
        @Override public String version() { return "1"; }
        @Override public void start(Map<String, String> config) { }
        @Override public void stop() { }

        @Override
        public void put(Collection<SinkRecord> records) {
            for (SinkRecord r : records) {
                try {
                    work(r, true);
                } catch (RuntimeException e) {
                    context.errantRecordReporter().report(r, e);
                }
            }
        }

        static void work(SinkRecord r, boolean payments) {
            var order = (Map<?, ?>) r.value();
            String outcome = order == null ? null : (String) order.get("outcome");
            if (payments == PAYMENT.equals(outcome)) {
                Letters.work(r.key(), order == null ? null : ((Long) order.get("order")).intValue(), outcome);
            }
        }
    }

    public static class Check implements Transformation<SinkRecord> {
        @Override public ConfigDef config() { return new ConfigDef(); }
        @Override public void configure(Map<String, ?> config) { }
        @Override public void close() { }

        @Override
        public SinkRecord apply(SinkRecord r) {
            ShopTask.work(r, false);
            return r;
        }
    }

    // Kafka Streams (KIP-1034).

    static AutoCloseable streams(String bootstrap, String source, String letters, Path folder) {
        var config = new Properties();
        config.putAll(Map.of(
            StreamsConfig.APPLICATION_ID_CONFIG, source + "-shop",
            StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, bootstrap,
            StreamsConfig.STATE_DIR_CONFIG, folder.toString(),
            StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 100,
            StreamsConfig.ERRORS_DEAD_LETTER_QUEUE_TOPIC_NAME_CONFIG, letters,
            StreamsConfig.DESERIALIZATION_EXCEPTION_HANDLER_CLASS_CONFIG, LogAndContinueExceptionHandler.class,
            StreamsConfig.PROCESSING_EXCEPTION_HANDLER_CLASS_CONFIG, LogAndContinueProcessingExceptionHandler.class,
            StreamsConfig.PRODUCTION_EXCEPTION_HANDLER_CLASS_CONFIG, Continue.class,
            StreamsConfig.producerPrefix("max.request.size"), 100_000));
        var json = Serdes.serdeFrom(new JsonSerializer(), new JsonDeserializer());
        var builder = new StreamsBuilder();
        builder.stream(source, Consumed.with(json, json))
            .mapValues((key, order) -> {
                if (order != null && LARGE.equals(outcome(order))) {
                    return ((ObjectNode) order).put("invoice", "x".repeat(200_000));
                }
                work(key, order);
                return order;
            })
            .to(source + "-worked", Produced.with(json, json));
        var streams = new KafkaStreams(builder.build(), config);
        streams.start();
        return () -> streams.close(Duration.ofSeconds(5));
    }

    /** Kafka has one that writes a letter and fails, but none that writes it and goes on. */
    public static class Continue extends DefaultProductionExceptionHandler {
        @Override
        public Response handleError(ErrorHandlerContext c, ProducerRecord<byte[], byte[]> record, Exception e) {
            return Response.resume(super.handleError(c, record, e).deadLetterQueueRecords());
        }
    }

    // What came of it.

    /** Reads the letters, puts one back, and reads on. */
    static List<Letter> letters(String bootstrap, String source, String topic, List<RecordMetadata> places,
            KafkaProducer<byte[], byte[]> producer, KafkaConsumer<byte[], byte[]> consumer) throws Exception {
        List<Letter> letters = new ArrayList<>();
        long dying = orders().stream().filter(Order::dies).count();
        for (var r : read(consumer, source.equals(topic) ? places.size() : dying)) {
            letters.add(new Letter(r, places.get(n(r)), places.get(n(r))));
        }
        letters.sort(Comparator.comparing(l -> n(l.record)));
        if (!source.equals(topic)) {
            var first = letters.stream().filter(l -> n(l.record) == TWICE).findFirst().orElseThrow();
            var r = first.record;
            var failed = producer.send(new ProducerRecord<>(source, null, r.key(), r.value(), r.headers())).get();
            letters.add(new Letter(read(consumer, 1).get(0), first.original, failed));
        }
        return letters;
    }

    static List<ConsumerRecord<byte[], byte[]>> read(KafkaConsumer<byte[], byte[]> consumer, long count) {
        List<ConsumerRecord<byte[], byte[]>> records = new ArrayList<>();
        while (records.size() < count) {
            consumer.poll(Duration.ofMillis(100)).forEach(records::add);
        }
        return records;
    }

    static KafkaConsumer<byte[], byte[]> consumer(String bootstrap, String topic) {
        var consumer = new KafkaConsumer<>(Map.<String, Object>of("bootstrap.servers", bootstrap),
            new ByteArrayDeserializer(), new ByteArrayDeserializer());
        var partitions = IntStream.range(0, PARTITIONS).mapToObj(p -> new TopicPartition(topic, p)).toList();
        consumer.assign(partitions);
        consumer.seekToBeginning(partitions);
        return consumer;
    }

    static int n(ConsumerRecord<byte[], byte[]> r) {
        return Integer.parseInt(new String(r.headers().lastHeader("n").value(), UTF_8));
    }

    static String line(Letter l) {
        var line = place(l.record.topic(), l.record.partition(), l.record.offset());
        line.put("key", l.record.key()).put("value", l.record.value());
        var headers = line.putArray("headers");
        l.record.headers().forEach(h -> headers.addArray().add(h.key()).add(h.value()));
        line.put("n", n(l.record));
        line.set("original", place(l.original.topic(), l.original.partition(), l.original.offset()));
        line.set("failed", place(l.failed.topic(), l.failed.partition(), l.failed.offset()));
        return line.toString();
    }

    static ObjectNode place(String topic, int partition, long offset) {
        return JSON.createObjectNode().put("topic", topic).put("partition", partition).put("offset", offset);
    }

    static void create(String bootstrap, Set<String> names) throws Exception {
        var topics = names.stream().map(name -> new NewTopic(name, PARTITIONS, (short) 1)).toList();
        try (var admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            admin.createTopics(topics).all().get();
        } catch (ExecutionException e) {
            fail("the topics " + names + " could not be created: " + e.getCause().getMessage());
        }
    }

    /** The end, also when something else hangs. */
    static void fail(String why) {
        System.err.println("Letters: " + why);
        Runtime.getRuntime().halt(1);
    }

    public static void main(String[] args) throws Exception {
        var topics = Map.of("spring", "orders-dlt", "connect", "orders-connect-dlq", "streams", "orders-streams-dlq",
            "raw", "orders-raw");
        if (args.length != 3 || !topics.containsKey(args[1])) {
            System.err.println("usage: Letters BOOTSTRAP spring|connect|streams|raw PREFIX");
            System.exit(2);
        }
        String bootstrap = args[0], library = args[1], topic = args[2] + topics.get(library);
        boolean raw = library.equals("raw");
        String source = raw ? topic : args[2] + "orders";
        // Where logs go unless it is another before the first line.
        PrintStream out = System.out;
        System.setOut(System.err);
        CompletableFuture.delayedExecutor(PATIENCE, TimeUnit.SECONDS)
            .execute(() -> fail("after " + PATIENCE + " s the letters were not in " + topic));

        var wanted = new HashSet<>(List.of(source, topic));
        if (library.equals("streams")) {
            wanted.add(source + "-worked");
        }
        create(bootstrap, wanted);
        Path folder = Files.createTempDirectory("letters");
        List<Letter> letters;
        try (var consumer = consumer(bootstrap, topic);
                var producer = new KafkaProducer<>(Map.<String, Object>of("bootstrap.servers", bootstrap),
                    new ByteArraySerializer(), new ByteArraySerializer())) {
            List<RecordMetadata> places = new ArrayList<>();
            for (Order o : orders()) {
                var record = new ProducerRecord<>(source, o.n % PARTITIONS, o.key, o.value, headers(o.n));
                places.add(producer.send(record).get());
            }
            AutoCloseable running = switch (library) {
                case "spring" -> spring(bootstrap, source);
                case "connect" -> connect(bootstrap, source, topic, folder);
                case "streams" -> streams(bootstrap, source, topic, folder);
                default -> () -> { };
            };
            try (running) {
                letters = letters(bootstrap, source, topic, places, producer, consumer);
            }
            long all = consumer.endOffsets(consumer.assignment()).values().stream().mapToLong(i -> i).sum();
            if (all != letters.size()) {
                fail("there are " + all + " letters in " + topic + ", and there should be " + letters.size());
            }
        } finally {
            FileSystemUtils.deleteRecursively(folder);
        }
        letters.forEach(l -> out.println(line(l)));
        out.flush();
        // Not every thread of theirs ends by itself.
        System.exit(0);
    }
}
